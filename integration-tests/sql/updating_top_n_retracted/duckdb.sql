SELECT bidder, channel, n
FROM (SELECT channel, bidder, count(*) AS n FROM bids GROUP BY channel, bidder)
QUALIFY row_number() OVER (PARTITION BY channel ORDER BY n, bidder DESC) <= 2;
