-- One row for all rows.
-- key columns: 0
CREATE TABLE result (n BIGINT, total BIGINT, high BIGINT, bidders BIGINT, nobody BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT count(*), sum(price), max(price), count(DISTINCT bidder), sum(price) FILTER (WHERE bidder < 0) FROM bids;
