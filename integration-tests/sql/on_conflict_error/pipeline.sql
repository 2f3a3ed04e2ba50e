-- A primary key that does not identify the rows of the query as far as the planner knows, but is unique: the last bid.
-- key columns: 1
CREATE TABLE result (last_bid BIGINT, auction BIGINT, n BIGINT, PRIMARY KEY (last_bid) NOT ENFORCED) WITH ('connector' = 'print');

INSERT INTO result
SELECT MAX(id), auction, COUNT(*) FROM bids GROUP BY auction
ON CONFLICT DO ERROR;
