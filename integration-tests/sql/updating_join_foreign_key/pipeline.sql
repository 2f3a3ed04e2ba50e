-- An aggregate joined by another column than its key: rows move between keys.
-- key columns: 2
CREATE TABLE result (bidder BIGINT, n BIGINT, auctions BIGINT, low BIGINT)
WITH ('connector' = 'print');

INSERT INTO result
SELECT b.bidder, b.n, c.auctions, c.low
FROM (SELECT bidder, count(*) AS n FROM bids GROUP BY bidder) b
LEFT JOIN (SELECT n, count(*) AS auctions, min(auction) AS low FROM (SELECT auction, count(*) AS n FROM bids GROUP BY auction) GROUP BY n) c
ON b.n = c.n;
