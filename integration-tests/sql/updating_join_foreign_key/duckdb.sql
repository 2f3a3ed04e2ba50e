SELECT b.bidder, b.n, c.auctions, c.low
FROM (SELECT bidder, count(*) AS n FROM bids GROUP BY bidder) b
LEFT JOIN (SELECT n, count(*) AS auctions, min(auction) AS low FROM (SELECT auction, count(*) AS n FROM bids GROUP BY auction) GROUP BY n) c
ON b.n = c.n;
