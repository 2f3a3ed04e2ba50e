-- CUBE in windows.
CREATE TABLE result (wstart TIMESTAMP(3), channel STRING, cheap BOOLEAN, n BIGINT, total BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, channel, cheap, COUNT(*), SUM(price)
FROM TABLE(TUMBLE((SELECT *, fee < 1 AS cheap FROM bids), DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, CUBE (channel, cheap);
