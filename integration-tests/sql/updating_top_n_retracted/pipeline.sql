-- The bidders with the fewest bids: each bid takes its bidder further from the first ranks, so the next ones are read.
-- key columns: 2
CREATE TABLE result (bidder BIGINT, channel STRING, n BIGINT, PRIMARY KEY (bidder, channel) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT bidder, channel, n FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY channel ORDER BY n, bidder DESC) AS rn FROM (
    SELECT channel, bidder, count(*) AS n FROM bids GROUP BY channel, bidder))
WHERE rn <= 2;
