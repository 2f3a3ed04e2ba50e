-- Groups of several branches with one primary key, with consistency points.
-- key columns: 2
SET 'consistency.interval' = '20 ms';

CREATE TABLE result (n BIGINT, channel STRING, twice BIGINT, PRIMARY KEY (n, channel) NOT ENFORCED) WITH ('connector' = 'print');

INSERT INTO result
SELECT n, channel, n + n FROM (
  SELECT auction, COUNT(*) AS n, MAX(channel) AS channel FROM bids GROUP BY auction
  UNION ALL
  SELECT bidder, COUNT(*) % 10, MIN(channel) FROM bids WHERE price > 50000 GROUP BY bidder)
ON CONFLICT DO NOTHING;
