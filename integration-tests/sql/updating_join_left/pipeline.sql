-- A left join of append-only rows: a row without a match is retracted when one arrives.
-- key columns: 3
CREATE TABLE result (auction BIGINT, time STRING, bid BIGINT, category STRING, price BIGINT)
WITH ('connector' = 'print');

INSERT INTO result
SELECT a.id, DATE_FORMAT(a.ts, 'HH:mm:ss.SSS'), b.id, a.category, b.price
FROM auctions a LEFT JOIN bids b ON a.id = b.auction AND b.price > 85000;
