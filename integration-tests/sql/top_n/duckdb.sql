SELECT channel, bucket(ts, 10), id, price,
       row_number() OVER (PARTITION BY bucket(ts, 10), channel ORDER BY price DESC NULLS LAST, id) AS rn
FROM bids QUALIFY rn <= 3;
