-- BOOL_AND, BOOL_OR and extremes of times and text in windows.
CREATE TABLE result (wstart TIMESTAMP(3), every_ BOOLEAN, some_ BOOLEAN, first_ TIMESTAMP(3), name STRING, fees DECIMAL(20, 2))
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, BOOL_AND(price > 100), BOOL_OR(price = 1), MIN(ts), MAX(channel), SUM(fee)
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '4' SECOND)) GROUP BY window_start, window_end;
