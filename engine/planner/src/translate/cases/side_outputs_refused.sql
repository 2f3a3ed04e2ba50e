CREATE TABLE broken (step VARCHAR, error VARCHAR, payload BYTES) WITH ('connector' = 'blackhole', 'on-error' = 'dead-letter');
SET 'table.exec.on-error' = 'ignore';
SET 'table.exec.on-error' = 'dead-letter';
CREATE VIEW more AS SELECT k + 1 AS k, name FROM clicks;
INSERT INTO names SELECT k, name FROM more;
INSERT INTO broken SELECT 'a', 'b', CAST('c' AS BYTES) FROM clicks;
INSERT INTO names SELECT k, name FROM more.late WHERE k > 3;
INSERT INTO names (k) SELECT * FROM more.late;
