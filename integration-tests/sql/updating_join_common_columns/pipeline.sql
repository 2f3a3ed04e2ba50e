-- USING and NATURAL in RIGHT and FULL joins: a common column has the value of the side that has the row.
-- key columns: 3
CREATE TABLE result (query STRING, seller BIGINT, channel STRING, n BIGINT, m BIGINT) WITH ('connector' = 'print');

CREATE VIEW bought AS SELECT bidder AS seller, channel, COUNT(*) AS n FROM bids WHERE price > 50000 GROUP BY bidder, channel;
CREATE VIEW sold AS SELECT auction.seller AS seller, category AS channel, COUNT(*) AS m FROM auctions GROUP BY auction.seller, category;
CREATE VIEW sellers AS SELECT auction.seller AS seller, COUNT(*) AS m FROM auctions WHERE reserve > 700 GROUP BY auction.seller;

INSERT INTO result
SELECT 'full', seller, bought.channel, n, m FROM bought FULL JOIN sellers USING (seller)
UNION ALL
SELECT 'natural', seller, channel, n, m FROM bought NATURAL FULL JOIN sold
UNION ALL
SELECT 'all', * FROM (SELECT * FROM bought RIGHT JOIN sellers USING (seller))
UNION ALL
SELECT 'three', seller, channel, n, o.m FROM bought FULL JOIN sellers USING (seller) FULL JOIN
  (SELECT auction.seller + 20 AS seller, COUNT(*) AS m FROM auctions GROUP BY auction.seller) AS o USING (seller);
