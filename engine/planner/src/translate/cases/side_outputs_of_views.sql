CREATE TABLE late_rows (k BIGINT, name VARCHAR) WITH ('connector' = 'blackhole');
CREATE TABLE broken (step VARCHAR, error VARCHAR, payload BYTES) WITH ('connector' = 'blackhole');
SET 'table.exec.on-error' = 'dead-letter';
CREATE VIEW per_key AS
SELECT k + 1 AS k, count(*) AS n, window_start AS w
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end;
RESET 'table.exec.on-error';
INSERT INTO counts SELECT k, n, w FROM per_key;
INSERT INTO late_rows SELECT * FROM per_key.late;
INSERT INTO broken SELECT * FROM per_key.dead_letters;
INSERT INTO names SELECT k, name FROM clicks /*+ OPTIONS('on-error' = 'skip') */;
