-- Joins of three inputs, one of them an aggregate, aggregated.
-- key columns: 1
CREATE TABLE result (category STRING, n BIGINT, high BIGINT, bidders BIGINT, PRIMARY KEY (category) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT a.category, count(*), max(b.price), count(DISTINCT c.bidder)
FROM bids b JOIN auctions a ON b.auction = a.id
LEFT JOIN (SELECT bidder, count(*) AS n FROM bids WHERE price > 50000 GROUP BY bidder) c ON c.bidder = b.bidder AND c.n > 30
GROUP BY a.category;
