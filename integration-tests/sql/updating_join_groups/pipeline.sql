-- A table joined with its own groups.
-- key columns: 1
CREATE TABLE result (id BIGINT, auction BIGINT, price BIGINT, highest BIGINT, n BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT b.id, b.auction, b.price, g.highest, g.n FROM bids AS b JOIN (
  SELECT auction, MAX(price) AS highest, COUNT(*) AS n FROM bids GROUP BY auction) AS g
ON b.auction = g.auction WHERE b.price = g.highest;
