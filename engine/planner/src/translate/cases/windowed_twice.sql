CREATE VIEW w AS SELECT k, price, ts, window_start AS s1, window_end AS e1 FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND));
INSERT INTO counts SELECT k, count(*), window_start FROM TABLE(TUMBLE(TABLE w, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end;
