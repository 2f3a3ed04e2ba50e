-- Overlapping windows with HAVING and named arguments.
CREATE TABLE result (wstart TIMESTAMP(3), wend TIMESTAMP(3), auction BIGINT, n BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, window_end, auction, COUNT(*)
FROM HOP(DATA => TABLE bids, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '5' SECOND, SIZE => INTERVAL '15' SECOND)
GROUP BY window_start, window_end, auction HAVING COUNT(*) >= 12;
