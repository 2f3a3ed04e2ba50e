CREATE VIEW per_key AS SELECT k, name, count(*) AS n, window_start AS s, window_end AS e FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, name, window_start, window_end;
INSERT INTO pairs SELECT a.k, b.most, a.s FROM per_key a JOIN (SELECT max(n) AS most, s, e FROM per_key GROUP BY s, e) b ON a.s = b.s AND a.e = b.e AND a.n = b.most;
