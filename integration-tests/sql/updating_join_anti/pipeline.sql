-- NOT EXISTS with a condition besides the key: rows are retracted when a match arrives.
-- key columns: 2
CREATE TABLE result (id BIGINT, time STRING, category STRING)
WITH ('connector' = 'print');

INSERT INTO result
SELECT a.id, DATE_FORMAT(a.ts, 'HH:mm:ss.SSS'), a.category FROM auctions a
WHERE NOT EXISTS (SELECT 1 FROM bids b WHERE b.auction = a.id AND b.price > a.reserve * 5000);
