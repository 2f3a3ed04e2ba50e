CREATE VIEW j AS SELECT l.k, l.ts, l.window_time AS wt FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) l JOIN TABLE(TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '10' SECOND)) r ON l.k = r.k AND l.window_start = r.window_start AND l.window_end = r.window_end;
INSERT INTO counts SELECT k, count(*), window_start FROM TABLE(TUMBLE(TABLE j, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end;
INSERT INTO names SELECT count(*), 'x' FROM TABLE(TUMBLE(TABLE j, DESCRIPTOR(wt), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
