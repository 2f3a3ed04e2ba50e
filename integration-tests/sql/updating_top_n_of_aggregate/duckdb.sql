SELECT channel, row_number() OVER (PARTITION BY channel ORDER BY n DESC, bidder) AS rn, bidder, n, total
FROM (SELECT channel, bidder, count(*) AS n, sum(price)::BIGINT AS total FROM bids GROUP BY channel, bidder)
QUALIFY rn <= 4;
