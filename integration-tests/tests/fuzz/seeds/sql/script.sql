SET 'pipeline.name' = 'fuzz'; SET 'execution.checkpointing.interval' = '1 s';
CREATE TABLE t (k BIGINT, v DOUBLE, s STRING, at TIMESTAMP(3), n AS k + 1, r ROW<a INT, b ARRAY<STRING>>,
  WATERMARK FOR at AS at - INTERVAL '5' SECOND) WITH ('connector' = 'filesystem', 'path' = '/nowhere', 'format' = 'json');
CREATE TABLE o WITH ('connector' = 'blackhole') AS SELECT 1;
CREATE TABLE out1 (k BIGINT, w TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
CREATE VIEW v AS SELECT k, window_start, count(*) AS n FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '1' MINUTE))
  WHERE s LIKE 'a%' GROUP BY k, window_start, window_end;
BEGIN STATEMENT SET;
INSERT INTO out1 SELECT * FROM v;
INSERT INTO out1 SELECT k, at, CAST(v AS BIGINT) FROM t WHERE s IN ('x', 'y') OR r.a > 3;
END;
