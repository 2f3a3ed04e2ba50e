-- ROLLUP and GROUPING in windows.
CREATE TABLE result (wstart TIMESTAMP(3), channel STRING, fee DECIMAL(8, 2), level BIGINT, n BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, channel, fee, GROUPING(channel, fee), COUNT(*)
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE bidder > 20
GROUP BY window_start, window_end, ROLLUP (channel, fee);
