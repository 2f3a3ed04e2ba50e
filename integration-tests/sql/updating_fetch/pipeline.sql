-- The auctions with the greatest total, which is not selected.
-- key columns: 1
CREATE TABLE result (auction BIGINT, n BIGINT, PRIMARY KEY (auction) NOT ENFORCED) WITH ('connector' = 'print');

INSERT INTO result
SELECT auction, n FROM (SELECT auction, count(*) AS n, sum(price) AS total FROM bids GROUP BY auction)
ORDER BY total DESC, auction FETCH FIRST 3 ROWS ONLY;
