CREATE TABLE broken (input VARCHAR, error VARCHAR, n BIGINT) WITH ('connector' = 'blackhole');
SET 'table.exec.on-error' = 'dead-letter';
CREATE VIEW checked AS SELECT k, name, ts, p FROM clicks WHERE name <> '' OR RAISE_ERROR('name is empty: ' || CAST(k AS VARCHAR));
RESET 'table.exec.on-error';
CREATE VIEW per_key AS
SELECT k, count(*) AS n, window_start AS w FROM TABLE(TUMBLE(TABLE checked, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY k, window_start, window_end;
INSERT INTO counts SELECT k, n, w FROM per_key UNION ALL SELECT k, 1, FLOOR(ts TO MINUTE) FROM per_key.late AS l WHERE l.k > 3;
INSERT INTO broken
SELECT step, error, COUNT(*) FROM TABLE(TUMBLE((SELECT *, PROCTIME() AS at FROM checked.dead_letters), DESCRIPTOR(at), INTERVAL '1' HOUR))
GROUP BY step, error, window_start, window_end;
