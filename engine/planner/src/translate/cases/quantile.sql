INSERT INTO pairs SELECT k, approx_percentile_cont(score, 0.9), window_start FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
