-- Hopping windows share slices.
CREATE TABLE result (auction BIGINT, wstart TIMESTAMP(3), wend TIMESTAMP(3), n BIGINT, total BIGINT, high BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT auction, window_start, window_end, count(*), sum(price), max(price)
FROM TABLE(HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end;
