-- Subqueries that stand for a value: one for all rows, and one for each row.
-- key columns: 1
CREATE TABLE result (id BIGINT, price BIGINT, n BIGINT)
WITH ('connector' = 'print');

INSERT INTO result
SELECT b.id, b.price, CAST((SELECT count(*) FROM auctions a WHERE a.id = b.auction) AS BIGINT)
FROM bids b WHERE b.price > (SELECT max(price) - 2000 FROM bids);
