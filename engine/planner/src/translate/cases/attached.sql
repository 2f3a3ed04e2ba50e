CREATE VIEW per_key AS SELECT k, count(*) AS n, window_start AS s, window_end AS e FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
INSERT INTO counts SELECT max(k), max(n), s FROM per_key GROUP BY s, e;
