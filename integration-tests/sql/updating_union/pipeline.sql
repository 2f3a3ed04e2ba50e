-- Distinct rows of two queries.
-- key columns: 2
CREATE TABLE result (k BIGINT, name STRING) WITH ('connector' = 'print');

INSERT INTO result
SELECT auction, channel FROM bids WHERE channel IS NOT NULL UNION SELECT auction.id, category FROM auctions;
