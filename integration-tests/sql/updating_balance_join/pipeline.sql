-- The same totals, computed in one step and in two, and joined: with consistency points, they are equal in every change.
-- key columns: 1
-- zero column: 2
CREATE TABLE result (auction BIGINT, difference BIGINT, n BIGINT, bidders BIGINT) WITH ('connector' = 'print');

SET 'consistency.interval' = '50 ms';

INSERT INTO result
SELECT one.auction, COALESCE(one.total - two.total, 0), one.n, two.bidders
FROM (SELECT auction, sum(price) AS total, count(*) AS n FROM bids GROUP BY auction) AS one
JOIN (
  SELECT auction, sum(total) AS total, count(*) AS bidders
  FROM (SELECT auction, bidder, sum(price) AS total FROM bids GROUP BY auction, bidder)
  GROUP BY auction
) AS two ON one.auction = two.auction;
