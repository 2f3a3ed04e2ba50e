-- A full interval join with a condition besides the bounds.
CREATE TABLE result (auction BIGINT, bid BIGINT, reserve BIGINT, price BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT a.id, b.id, a.reserve, b.price
FROM auctions a FULL JOIN bids b ON a.id = b.auction AND b.ts BETWEEN a.ts - INTERVAL '5' SECOND AND a.ts + INTERVAL '20' SECOND AND b.price > a.reserve * 1000;
