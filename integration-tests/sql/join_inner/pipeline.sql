-- An inner join without windows of append-only rows, with a condition besides the key.
CREATE TABLE result (bid BIGINT, auction BIGINT, category STRING, price BIGINT, reserve BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT b.id, a.id, a.category, b.price, a.reserve
FROM bids b JOIN auctions a ON b.auction = a.id AND b.price > a.reserve * 1000;
