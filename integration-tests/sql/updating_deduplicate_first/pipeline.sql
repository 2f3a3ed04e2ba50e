-- The first bid of each bidder by event time; an earlier one may come later.
-- key columns: 1
CREATE TABLE result (bidder BIGINT, id BIGINT, PRIMARY KEY (bidder) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT bidder, id FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder ORDER BY ts, id) AS rn FROM bids)
WHERE rn = 1;
