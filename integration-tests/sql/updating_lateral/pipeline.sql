-- LATERAL subqueries: the first rows of each row's key, an aggregate of its key, also with an outer join.
-- key columns: 4
CREATE TABLE result (query STRING, id BIGINT, time STRING, bid BIGINT, price BIGINT) WITH ('connector' = 'print');

CREATE VIEW large AS SELECT id, ts, category FROM auctions WHERE reserve > 900;

INSERT INTO result
SELECT 'first', a.id, DATE_FORMAT(a.ts, 'HH:mm:ss.SSS'), t.bid, t.price
FROM large AS a, LATERAL (SELECT b.id AS bid, price FROM bids AS b WHERE b.auction = a.id ORDER BY price DESC, b.id LIMIT 2) AS t
UNION ALL
SELECT 'second', a.id, DATE_FORMAT(a.ts, 'HH:mm:ss.SSS'), t.bid, 0
FROM large AS a LEFT JOIN LATERAL (
  SELECT b.id AS bid FROM bids AS b WHERE b.auction = a.id AND b.price > 60000 ORDER BY price DESC, b.id LIMIT 1 OFFSET 1) AS t ON TRUE
UNION ALL
SELECT 'count', a.id, DATE_FORMAT(a.ts, 'HH:mm:ss.SSS'), t.n, t.top
FROM large AS a CROSS JOIN LATERAL (SELECT COUNT(*) AS n, MAX(price) AS top FROM bids AS b WHERE b.auction = a.id AND price > 80000) AS t
UNION ALL
SELECT 'rows', a.id, DATE_FORMAT(a.ts, 'HH:mm:ss.SSS'), t.id, t.price
FROM large AS a CROSS JOIN LATERAL (SELECT * FROM bids AS b WHERE b.auction = a.id AND b.price > 80000) AS t;
