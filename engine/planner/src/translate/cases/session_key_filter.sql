INSERT INTO counts SELECT k, count(*), window_start FROM TABLE(SESSION(TABLE clicks PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE k > 3 GROUP BY k, window_start, window_end;
