-- RANK gives bidders with equally many bids one rank, after which ranks are left out.
-- key columns: 2
CREATE TABLE result (channel STRING, bidder BIGINT, n BIGINT, rn BIGINT, PRIMARY KEY (channel, bidder) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT channel, bidder, n, rn FROM (
  SELECT *, RANK() OVER (PARTITION BY channel ORDER BY n DESC) AS rn FROM (
    SELECT channel, bidder, count(*) AS n FROM bids GROUP BY channel, bidder))
WHERE rn <= 5;
