CREATE TABLE digits (v INT, k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json');
CREATE TABLE found (v INT) WITH ('connector' = 'blackhole');
INSERT INTO found SELECT v FROM digits WHERE v > 0 AND 10 / v > 2 AND 10 / v < 5;
INSERT INTO found SELECT v FROM (SELECT * FROM digits WHERE v <> 0) WHERE 10 / v > 2;
INSERT INTO found SELECT v FROM digits WHERE k = 'zzz' AND CAST(k AS INT) > 0;
INSERT INTO counts SELECT SUM(10 / v) FILTER (WHERE v <> 0) + MAX(10 / v) FILTER (WHERE v <> 0), SUM(v) FILTER (WHERE v <> 0), window_start
FROM TABLE(TUMBLE(TABLE digits, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
