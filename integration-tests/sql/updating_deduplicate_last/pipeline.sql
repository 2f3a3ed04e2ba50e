-- The last bid of each bidder by event time; of several at one time, the last to come.
-- key columns: 1
CREATE TABLE result (bidder BIGINT, id BIGINT, price BIGINT, PRIMARY KEY (bidder) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT bidder, id, price FROM bids
QUALIFY ROW_NUMBER() OVER (PARTITION BY bidder ORDER BY ts DESC) = 1;
