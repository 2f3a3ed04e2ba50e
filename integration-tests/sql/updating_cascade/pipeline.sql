-- Aggregates of aggregates, whose input rows are retracted: MIN and MAX fall back to earlier values.
-- key columns: 1
CREATE TABLE result (
  n BIGINT, bidders BIGINT, channels BIGINT, total BIGINT, mean BIGINT, low BIGINT, high BIGINT, channel STRING,
  PRIMARY KEY (n) NOT ENFORCED
) WITH ('connector' = 'print');

INSERT INTO result
SELECT n, count(*), count(DISTINCT channel), sum(total), sum(total) / count(*), min(total), max(total), max(channel)
FROM (SELECT bidder, count(*) AS n, sum(price) AS total, min(channel) AS channel FROM bids GROUP BY bidder)
GROUP BY n;
