SELECT channel, row_number() OVER (PARTITION BY channel ORDER BY price DESC NULLS LAST, id) AS rn, id, price
FROM bids QUALIFY rn <= 3;
