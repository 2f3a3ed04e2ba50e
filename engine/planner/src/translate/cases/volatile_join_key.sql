CREATE VIEW l AS SELECT *, RAND_INTEGER(5) AS r FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE));
CREATE VIEW o AS SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '1' MINUTE));
INSERT INTO counts SELECT l.k, l.r, l.window_start FROM l JOIN o ON l.r + 1 = o.k AND l.window_start = o.window_start AND l.window_end = o.window_end;
