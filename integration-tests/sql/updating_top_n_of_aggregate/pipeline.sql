-- The bidders with the most bids in each channel, whose numbers change, with their rank.
-- key columns: 2
CREATE TABLE result (channel STRING, rn BIGINT, bidder BIGINT, n BIGINT, total BIGINT, PRIMARY KEY (channel, rn) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT channel, rn, bidder, n, total FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY channel ORDER BY n DESC, bidder) AS rn FROM (
    SELECT channel, bidder, count(*) AS n, sum(price) AS total FROM bids GROUP BY channel, bidder))
WHERE rn <= 4;
