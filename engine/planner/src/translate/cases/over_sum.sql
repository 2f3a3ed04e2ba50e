INSERT INTO pairs SELECT k, sum(score) OVER (PARTITION BY k ORDER BY ts), ts FROM clicks;
