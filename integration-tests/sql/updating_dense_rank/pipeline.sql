-- DENSE_RANK of append-only rows: all bids of the three highest rounded prices.
-- key columns: 3
CREATE TABLE result (channel STRING, id BIGINT, rn BIGINT, thousands BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT channel, id, rn, thousands FROM (
  SELECT channel, id, price / 1000 AS thousands,
    DENSE_RANK() OVER (PARTITION BY channel ORDER BY price / 1000 DESC NULLS LAST) AS rn
  FROM bids)
WHERE rn <= 3;
