WITH bought AS (SELECT bidder AS seller, channel, count(*) AS n FROM bids WHERE price > 50000 GROUP BY bidder, channel),
sold AS (SELECT auction.seller AS seller, category AS channel, count(*) AS m FROM auctions GROUP BY auction.seller, category),
sellers AS (SELECT auction.seller AS seller, count(*) AS m FROM auctions WHERE reserve > 700 GROUP BY auction.seller)
SELECT 'full', seller, bought.channel, n, m FROM bought FULL JOIN sellers USING (seller)
UNION ALL
SELECT 'natural', seller, channel, n, m FROM bought NATURAL FULL JOIN sold
UNION ALL
SELECT 'all', seller, channel, n, m FROM bought RIGHT JOIN sellers USING (seller)
UNION ALL
SELECT 'three', seller, channel, n, o.m FROM bought FULL JOIN sellers USING (seller) FULL JOIN
  (SELECT auction.seller + 20 AS seller, count(*) AS m FROM auctions GROUP BY auction.seller) AS o USING (seller);
