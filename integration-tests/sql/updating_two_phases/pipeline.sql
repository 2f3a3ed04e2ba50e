-- Aggregation in two phases: of rows, and of the changes of its result.
-- key columns: 2
SET 'table.optimizer.agg-phase-strategy' = 'TWO_PHASE';
CREATE TABLE result (
  kind STRING, id BIGINT, n BIGINT, dear BIGINT, total BIGINT, mean DOUBLE, low BIGINT, high BIGINT, fees DECIMAL(18, 2),
  PRIMARY KEY (kind, id) NOT ENFORCED
) WITH ('connector' = 'print');

INSERT INTO result
SELECT 'auction', auction, count(*), count(*) FILTER (WHERE price > 50000), sum(price), avg(CAST(bidder AS DOUBLE)),
  min(price), max(price), sum(fee)
FROM bids GROUP BY auction;

INSERT INTO result
SELECT 'bids', n, count(*), count(total) FILTER (WHERE total > 100000), sum(total), avg(CAST(n AS DOUBLE)),
  CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(sum(fees) AS DECIMAL(18, 2))
FROM (SELECT bidder, count(*) AS n, sum(price) AS total, sum(fee) AS fees FROM bids GROUP BY bidder) GROUP BY n;
