SELECT channel, id, dense_rank() OVER (PARTITION BY channel ORDER BY price // 1000 DESC NULLS LAST) AS rn,
  price // 1000 AS thousands
FROM bids QUALIFY rn <= 3;
