-- Windows whose groups are chosen by HAVING, with FILTER.
CREATE TABLE result (wstart TIMESTAMP(3), channel STRING, n BIGINT, dear BIGINT, total BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, channel, COUNT(*), COUNT(*) FILTER (WHERE price > 60000), SUM(price)
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND))
WHERE channel IS NOT NULL GROUP BY window_start, window_end, channel HAVING COUNT(*) > 4 AND SUM(price) > 300000;
