WITH thousands AS (SELECT bucket(ts, 30) AS wstart, channel, id, price // 1000 AS thousands FROM bids)
SELECT * FROM (
  SELECT 'rank', channel, wstart, id, thousands,
    rank() OVER (PARTITION BY wstart, channel ORDER BY thousands DESC NULLS LAST) AS rn
  FROM thousands QUALIFY rn BETWEEN 2 AND 4)
UNION ALL
SELECT * FROM (
  SELECT 'dense', channel, wstart, id, thousands,
    dense_rank() OVER (PARTITION BY wstart, channel ORDER BY thousands NULLS LAST) AS rn
  FROM thousands QUALIFY rn <= 3);
