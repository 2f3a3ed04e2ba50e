CREATE VIEW per_key AS SELECT k, count(*) AS n, sum(price) AS total, window_start AS s, window_end AS e FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
INSERT INTO counts SELECT k, n, s FROM per_key WHERE n > 1;
INSERT INTO pairs SELECT k, total, e FROM per_key;
