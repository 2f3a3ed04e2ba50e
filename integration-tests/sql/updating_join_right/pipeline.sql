-- A right join of append-only rows on a computed key and a column.
-- key columns: 3
CREATE TABLE result (bid BIGINT, auction BIGINT, time STRING, category STRING)
WITH ('connector' = 'print');

INSERT INTO result
SELECT b.id, a.id, DATE_FORMAT(a.ts, 'HH:mm:ss.SSS'), a.category
FROM auctions a RIGHT JOIN bids b ON a.id + 1 = b.auction AND a.category = 'art' AND a.reserve > b.fee * 100;
