-- One table as versions for a temporal join, and as changes for a GROUP BY, with consistency points.
-- key columns: 1
SET 'consistency.interval' = '100 ms';

CREATE TABLE factors (
  channel STRING, factor DECIMAL(4, 2), since TIMESTAMP(3), PRIMARY KEY (channel) NOT ENFORCED,
  WATERMARK FOR since AS since - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/factors.json', 'format' = 'debezium-json');

CREATE TABLE result (factor DECIMAL(4, 2), n BIGINT, total BIGINT, PRIMARY KEY (factor) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT factor, COUNT(*), SUM(price) FROM (
  SELECT f.factor, b.price
  FROM bids AS b JOIN factors FOR SYSTEM_TIME AS OF b.ts AS f ON b.channel = f.channel
  UNION ALL
  SELECT factor, 1 FROM factors)
GROUP BY factor;
