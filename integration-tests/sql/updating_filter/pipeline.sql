-- Aggregates with FILTER, of which some have no row.
-- key columns: 1
CREATE TABLE result (auction BIGINT, n BIGINT, apple BIGINT, dear BIGINT, none_ BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT auction, COUNT(*), COUNT(*) FILTER (WHERE channel = 'apple'), SUM(price) FILTER (WHERE price > 80000), MAX(price) FILTER (WHERE price < 0)
FROM bids GROUP BY auction;
