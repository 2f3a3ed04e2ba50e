-- Aggregates of aggregates: how many bidders have how many bids.
-- key columns: 1
CREATE TABLE result (n BIGINT, bidders BIGINT, total BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT n, COUNT(*), SUM(total) FROM (SELECT bidder, COUNT(*) / 10 AS n, SUM(price) AS total FROM bids GROUP BY bidder) GROUP BY n;
