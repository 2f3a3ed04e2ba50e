-- Subqueries in FROM, three levels deep.
CREATE TABLE result (k BIGINT, n BIGINT, label STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT k, n + 1, label FROM (
  SELECT id AS k, n * 2 AS n, 'bid ' || CAST(id AS STRING) AS label FROM (
    SELECT id, auction - 1000 AS n FROM bids WHERE channel = 'google') AS inner_
  WHERE n > 5) AS middle
WHERE k > 200;
