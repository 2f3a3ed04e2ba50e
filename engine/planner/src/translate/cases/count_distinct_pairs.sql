INSERT INTO counts SELECT COUNT(DISTINCT k, name), COUNT(DISTINCT k), window_start FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
