-- Rows that a query fails on: dead letters of a view, and failed values that become NULL.
CREATE TABLE result (kind STRING, id BIGINT, number BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');
CREATE TABLE failures (step STRING, error STRING, payload BYTES) WITH ('connector' = 'blackhole');

SET 'table.exec.on-error' = 'dead-letter';
CREATE VIEW numbers AS SELECT id, CAST(REPLACE(channel, 'channel-', '') AS BIGINT) AS number FROM bids;
SET 'table.exec.on-error' = 'null';
CREATE VIEW numbers_or_null AS SELECT id, CAST(REPLACE(channel, 'channel-', '') AS BIGINT) AS number FROM bids;
RESET 'table.exec.on-error';

INSERT INTO result SELECT 'dead letters', id, number FROM numbers;
INSERT INTO result SELECT 'null', id, number FROM numbers_or_null WHERE id < 200;
INSERT INTO failures SELECT * FROM numbers.dead_letters;
