CREATE VIEW j AS SELECT l.k, l.ts, r.at FROM clicks l JOIN orders r ON l.k = r.k AND r.at BETWEEN l.ts AND l.ts + INTERVAL '1' MINUTE;
INSERT INTO counts SELECT k, count(*), window_start FROM TABLE(TUMBLE(TABLE j, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY k, window_start, window_end;
INSERT INTO counts SELECT k, count(*), window_start FROM TABLE(TUMBLE(TABLE j, DESCRIPTOR(at), INTERVAL '1' HOUR)) GROUP BY k, window_start, window_end;
