-- Groups by expressions in windows, and arithmetic of aggregates.
CREATE TABLE result (wstart TIMESTAMP(3), kind STRING, per BIGINT, spread BIGINT, n BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, UPPER(SUBSTRING(channel, 1, 1)), SUM(price) / COUNT(*), MAX(price) - MIN(price), COUNT(*) * 2
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, UPPER(SUBSTRING(channel, 1, 1));
