-- Windows that grow, with conditions on their bounds.
CREATE TABLE result (wstart TIMESTAMP(3), wend TIMESTAMP(3), n BIGINT, highest BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, window_end, COUNT(*), MAX(price)
FROM TABLE(CUMULATE(TABLE bids, DESCRIPTOR(ts), INTERVAL '20' SECOND, INTERVAL '1' MINUTE))
WHERE channel <> 'apple' GROUP BY window_start, window_end;
