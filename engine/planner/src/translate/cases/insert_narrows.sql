CREATE TABLE whole (i INT, b BOOLEAN, bs ARRAY<BIGINT>, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json');
CREATE TABLE ints (i INT) WITH ('connector' = 'blackhole');
CREATE TABLE arrays (a ARRAY<INT>) WITH ('connector' = 'blackhole');
INSERT INTO ints SELECT i + 1 FROM whole;
INSERT INTO ints SELECT MOD(i, 3) FROM whole;
INSERT INTO ints SELECT COALESCE(i, 0) FROM whole;
INSERT INTO ints SELECT FLOOR(i) FROM whole WHERE SIGN(i) = 1 AND TRUNCATE(i, -2) > 0;
INSERT INTO ints SELECT SUM(i) + SUM(CASE WHEN b THEN 1 ELSE 0 END) FROM TABLE(TUMBLE(TABLE whole, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
INSERT INTO arrays SELECT bs FROM whole;
