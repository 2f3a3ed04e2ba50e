-- RANK and DENSE_RANK in windows: rows of equal order have one rank.
CREATE TABLE result (kind STRING, channel STRING, wstart TIMESTAMP(3), id BIGINT, thousands BIGINT, rn BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

CREATE VIEW thousands AS
SELECT window_start, window_end, channel, id, price / 1000 AS thousands
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '30' SECOND));

INSERT INTO result
SELECT 'rank', channel, window_start, id, thousands, rn FROM (
  SELECT *, RANK() OVER (PARTITION BY window_start, window_end, channel ORDER BY thousands DESC NULLS LAST) AS rn FROM thousands)
WHERE rn BETWEEN 2 AND 4
UNION ALL
SELECT 'dense', channel, window_start, id, thousands, rn FROM (
  SELECT *, DENSE_RANK() OVER (PARTITION BY window_start, window_end, channel ORDER BY thousands NULLS LAST) AS rn FROM thousands)
WHERE rn <= 3;
