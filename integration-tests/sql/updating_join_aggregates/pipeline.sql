-- A join of two aggregates by their keys, which identify the result.
-- key columns: 1
CREATE TABLE result (auction BIGINT, n BIGINT, high BIGINT, channels BIGINT, PRIMARY KEY (auction) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT c.auction, c.n, m.high, m.channels
FROM (SELECT auction, count(*) AS n FROM bids WHERE bidder > 10 GROUP BY auction) c
JOIN (SELECT auction, max(price) AS high, count(DISTINCT channel) AS channels FROM bids GROUP BY auction) m
ON c.auction = m.auction;
