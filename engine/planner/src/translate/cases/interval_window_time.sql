CREATE VIEW l AS SELECT k, count(*) AS n, window_time AS wt FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end, window_time;
INSERT INTO pairs SELECT l.k, r.amount, l.wt FROM l JOIN orders r ON l.k = r.k AND r.at BETWEEN l.wt - INTERVAL '10' SECOND AND l.wt;
