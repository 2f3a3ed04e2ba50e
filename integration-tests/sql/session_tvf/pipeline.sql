-- Session windows as a table function, partitioned.
CREATE TABLE result (auction BIGINT, starts TIMESTAMP(3), ends TIMESTAMP(3), n BIGINT, high BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT auction, window_start, window_end, count(*), max(price)
FROM TABLE(SESSION(TABLE bids PARTITION BY auction, DESCRIPTOR(ts), INTERVAL '6' SECOND))
GROUP BY auction, window_start, window_end;
