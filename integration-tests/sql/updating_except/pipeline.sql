-- Distinct rows of one query that another does not have.
-- key columns: 1
CREATE TABLE result (auction BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT auction FROM bids EXCEPT SELECT auction FROM bids WHERE price > 85000;
