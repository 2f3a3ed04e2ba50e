-- Groups that enter the result, change in it, and leave it again.
-- key columns: 1
CREATE TABLE result (bidder BIGINT, n BIGINT, total BIGINT, PRIMARY KEY (bidder) NOT ENFORCED) WITH ('connector' = 'print');

INSERT INTO result
SELECT bidder, count(*), sum(price) FROM bids GROUP BY bidder HAVING count(*) > 3 AND sum(price) % 7 < 5;
