SELECT a.id, strftime(a.ts, '%H:%M:%S.%g'), a.category, b.n, b.high
FROM auctions a LEFT JOIN (SELECT auction, count(*) AS n, max(price) AS high FROM bids GROUP BY auction) b
ON a.id = b.auction AND b.n > 20;
