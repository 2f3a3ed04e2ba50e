-- Aggregates beyond the common ones.
CREATE TABLE result (
  auction BIGINT, wstart TIMESTAMP(3), dev DECIMAL(20, 3), mid DECIMAL(20, 2), ids STRING,
  firsts BIGINT, lasts BIGINT, every_priced BOOLEAN, bits BIGINT
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT auction, window_start, CAST(stddev_pop(price) AS DECIMAL(20, 3)),
       CAST(median(CAST(price AS DOUBLE)) AS DECIMAL(20, 2)),
       string_agg(CAST(id AS STRING), '|' ORDER BY id), first_value(id ORDER BY ts, id), last_value(id ORDER BY ts, id),
       bool_and(price IS NOT NULL), bit_xor(id)
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '60' SECOND))
GROUP BY auction, window_start, window_end;
