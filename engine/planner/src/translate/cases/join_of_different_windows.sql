CREATE VIEW one AS SELECT * FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE));
CREATE VIEW two AS SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '2' MINUTE));
CREATE VIEW hop AS SELECT * FROM TABLE(HOP(TABLE orders, DESCRIPTOR(at), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE));
INSERT INTO counts SELECT a.k, b.id, a.window_start FROM one a JOIN two b ON a.k = b.k AND a.window_start = b.window_start AND a.window_end = b.window_end;
INSERT INTO counts SELECT a.k, b.id, a.window_start FROM one a JOIN hop b ON a.k = b.k AND a.window_start = b.window_start AND a.window_end = b.window_end;
