-- Aggregates of aggregates, whose input rows are retracted: MIN and MAX fall back to earlier values.
-- key columns: 1
CREATE TABLE result (
  n BIGINT, bidders BIGINT, low BIGINT, high BIGINT, channels BIGINT, total BIGINT, PRIMARY KEY (n) NOT ENFORCED
) WITH ('connector' = 'print');

INSERT INTO result
SELECT n, count(*), min(total), max(total), count(DISTINCT channel), sum(total)
FROM (SELECT bidder, count(*) AS n, sum(price) AS total, min(channel) AS channel FROM bids GROUP BY bidder)
GROUP BY n;
