CREATE TABLE small (v INT, w SMALLINT, b BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json');
CREATE TABLE all_of_them (s BIGINT, a INT, sd BIGINT, cd BIGINT, ad INT, sf BIGINT, af INT, aw SMALLINT, ab BIGINT, wide BIGINT, av INT) WITH ('connector' = 'blackhole');
INSERT INTO all_of_them SELECT SUM(v), AVG(v), SUM(DISTINCT v), COUNT(DISTINCT v), AVG(DISTINCT v), SUM(v) FILTER (WHERE b > 0), AVG(v) FILTER (WHERE b > 0), AVG(w), AVG(b), SUM(CAST(w AS BIGINT)), AVG(v)
FROM TABLE(TUMBLE(TABLE small, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
