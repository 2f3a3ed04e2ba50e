SELECT channel, auction, id, price FROM bids
QUALIFY row_number() OVER (PARTITION BY channel, auction ORDER BY price NULLS FIRST, id) BETWEEN 2 AND 4;
