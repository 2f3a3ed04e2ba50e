-- Distinct rows, of a table and of a union.
-- key columns: 3
CREATE TABLE result (kind STRING, a BIGINT, channel STRING, PRIMARY KEY (kind, a, channel) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result SELECT DISTINCT 'distinct', bidder, channel FROM bids;

INSERT INTO result
SELECT 'union', bidder, channel FROM bids WHERE price < 40000 UNION SELECT 'union', auction, channel FROM bids WHERE price > 60000;
