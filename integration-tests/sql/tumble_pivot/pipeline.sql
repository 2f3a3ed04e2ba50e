-- Conditions inside aggregates: a row per window, a column per value.
CREATE TABLE result (wend TIMESTAMP(3), apple BIGINT, google BIGINT, most BIGINT, none_ BIGINT, average BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_end, SUM(CASE WHEN channel = 'apple' THEN price END), SUM(CASE channel WHEN 'google' THEN price ELSE 0 END),
       MAX(IF(channel = 'baidu', price, CAST(NULL AS BIGINT))), COUNT(*) - COUNT(channel), AVG(price)
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '20' SECOND)) GROUP BY window_start, window_end;
