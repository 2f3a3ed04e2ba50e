-- The latest bid of each bidder, counted by channel.
-- key columns: 1
CREATE TABLE result (channel STRING, n BIGINT, total BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT channel, COUNT(*), SUM(price) FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY id DESC) AS rn FROM bids) WHERE rn = 1 AND channel IS NOT NULL
GROUP BY channel;
