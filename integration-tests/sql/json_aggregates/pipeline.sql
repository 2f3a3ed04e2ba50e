-- JSON objects and arrays of the rows of a window. The order of an array's elements is that of the rows, so all are equal.
CREATE TABLE result (
  auction BIGINT, wstart TIMESTAMP(3), prices STRING, known STRING, ones STRING, nested STRING
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT auction, window_start,
       JSON_OBJECTAGG(KEY CAST(id AS STRING) VALUE price),
       JSON_OBJECTAGG(CAST(id AS STRING) VALUE channel ABSENT ON NULL) FILTER (WHERE id < 300),
       JSON_ARRAYAGG(CASE WHEN price > 50000 THEN auction END),
       JSON_OBJECTAGG(KEY CAST(id AS STRING) VALUE JSON_OBJECT('p' VALUE price, 'a' VALUE JSON_ARRAY(auction, channel NULL ON NULL)))
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '60' SECOND))
GROUP BY auction, window_start, window_end;
