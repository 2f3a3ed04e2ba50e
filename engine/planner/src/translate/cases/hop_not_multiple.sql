INSERT INTO counts SELECT k, count(*), window_start FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
