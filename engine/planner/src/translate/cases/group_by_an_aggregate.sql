INSERT INTO names SELECT count(*), name FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY 1, 2, window_start, window_end;
