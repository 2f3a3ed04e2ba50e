-- USING and NATURAL: the common columns are there once.
-- key columns: 4
CREATE TABLE result (auction BIGINT, n BIGINT, high BIGINT, query STRING)
WITH ('connector' = 'print');

INSERT INTO result
SELECT auction, n, high, 'using'
FROM (SELECT auction, count(*) AS n FROM bids WHERE price > 80000 GROUP BY auction) a
LEFT JOIN (SELECT auction, max(price) AS high FROM bids WHERE bidder > 25 GROUP BY auction) b USING (auction)
UNION ALL
SELECT b.*, 'natural'
FROM (SELECT auction, n, high
  FROM (SELECT auction, count(*) AS n FROM bids WHERE price > 80000 GROUP BY auction) a
  NATURAL JOIN (SELECT auction, max(price) AS high FROM bids WHERE bidder > 25 GROUP BY auction) b) b;
