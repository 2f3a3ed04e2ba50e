CREATE VIEW per_key AS SELECT k, count(*) AS n, window_time AS wt FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end, window_time;
INSERT INTO counts SELECT k, sum(n), window_start FROM TABLE(TUMBLE(TABLE per_key, DESCRIPTOR(wt), INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end;
