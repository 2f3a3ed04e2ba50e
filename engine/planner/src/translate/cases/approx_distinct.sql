INSERT INTO counts SELECT k, CAST(approx_distinct(name) AS BIGINT), window_start FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
