CREATE TABLE money (d DECIMAL(10, 2), ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json');
CREATE TABLE sums (s DECIMAL(20, 2), a DECIMAL(14, 6), q DECIMAL(38, 6)) WITH ('connector' = 'blackhole');
INSERT INTO sums SELECT SUM(d), AVG(d), SUM(d) / COUNT(*) FROM TABLE(TUMBLE(TABLE money, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
