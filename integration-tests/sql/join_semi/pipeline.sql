-- IN and EXISTS without windows, whose rows are never retracted.
CREATE TABLE result (id BIGINT, category STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, category FROM auctions
WHERE id IN (SELECT auction FROM bids WHERE price > 50000)
UNION ALL
SELECT b.id, 'bid' FROM bids b WHERE EXISTS (SELECT 1 FROM auctions a WHERE a.id = b.auction AND a.reserve * 1000 > b.price);
