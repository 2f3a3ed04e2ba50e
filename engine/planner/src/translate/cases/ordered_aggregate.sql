INSERT INTO names SELECT k, first_value(name ORDER BY price DESC) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
