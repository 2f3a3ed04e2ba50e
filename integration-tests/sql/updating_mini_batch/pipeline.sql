-- Aggregates of aggregates that hold back their changes, under Flink's settings for mini-batches: groups come and go
-- between two points, and some texts are long.
-- key columns: 2
CREATE TABLE result (
  n BIGINT, channel STRING, bidders BIGINT, total BIGINT, mean DECIMAL(20, 2), low BIGINT, url STRING, fees BIGINT,
  PRIMARY KEY (n, channel) NOT ENFORCED
) WITH ('connector' = 'print');

SET 'table.exec.mini-batch.enabled' = 'true';
SET 'table.exec.mini-batch.allow-latency' = '20 ms';
SET 'table.exec.mini-batch.size' = '1000';

INSERT INTO result
SELECT n, channel, count(*), sum(total), CAST(sum(total) AS DECIMAL(20, 2)) / count(*), min(total), max(url),
       count(DISTINCT fee)
FROM (
  SELECT bidder, count(*) AS n, sum(price) AS total, max(channel) AS channel, min(url) AS url, max(fee) AS fee
  FROM bids GROUP BY bidder HAVING count(*) > 1
)
GROUP BY n, channel;
