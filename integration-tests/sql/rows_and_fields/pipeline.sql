-- Rows that are made in a view, compared, and taken apart.
CREATE VIEW pairs AS
SELECT id, CAST(ROW(price, channel) AS ROW<x BIGINT, y STRING>) AS pair, auction = 1000 AND channel = 'apple' AS same
FROM bids WHERE MOD(id, 6) = 4;

CREATE TABLE result (id BIGINT, x BIGINT, y STRING, equal BOOLEAN)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, pair.x, pair.y, same FROM pairs;
