-- Two aggregates of one table, added up: with consistency points, their sum is zero in every change.
-- key columns: 0
-- zero column: 1
CREATE TABLE result (
  total BIGINT, transfers BIGINT, accounts BIGINT
) WITH ('connector' = 'print');

SET 'consistency.interval' = '50 ms';

INSERT INTO result
SELECT sum(amount), sum(n), count(*) FROM (
  SELECT auction AS account, -sum(price) AS amount, count(*) AS n FROM bids GROUP BY auction
  UNION ALL
  SELECT bidder AS account, sum(price) AS amount, count(*) AS n FROM bids GROUP BY bidder
);
