SELECT channel, bidder, n, rank() OVER (PARTITION BY channel ORDER BY n DESC) AS rn
FROM (SELECT channel, bidder, count(*) AS n FROM bids GROUP BY channel, bidder) QUALIFY rn <= 5;
