-- Overlapping windows in the older syntax.
CREATE TABLE result (wstart TIMESTAMP(3), wend TIMESTAMP(3), channel STRING, total BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT HOP_START(ts, INTERVAL '10' SECOND, INTERVAL '20' SECOND), HOP_END(ts, INTERVAL '10' SECOND, INTERVAL '20' SECOND), channel, SUM(price)
FROM bids WHERE price > 30000 GROUP BY HOP(ts, INTERVAL '10' SECOND, INTERVAL '20' SECOND), channel;
