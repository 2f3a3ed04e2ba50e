WITH large AS (SELECT id, ts, category FROM auctions WHERE reserve > 900)
SELECT 'first', a.id, strftime(a.ts, '%H:%M:%S.%g'), t.bid, t.price
FROM large AS a, LATERAL (SELECT b.id AS bid, price FROM bids AS b WHERE b.auction = a.id ORDER BY price DESC NULLS LAST, b.id LIMIT 2) AS t
UNION ALL
SELECT 'second', a.id, strftime(a.ts, '%H:%M:%S.%g'), t.bid, 0
FROM large AS a LEFT JOIN LATERAL (
  SELECT b.id AS bid FROM bids AS b WHERE b.auction = a.id AND b.price > 60000 ORDER BY price DESC, b.id LIMIT 1 OFFSET 1) AS t ON TRUE
UNION ALL
SELECT 'count', a.id, strftime(a.ts, '%H:%M:%S.%g'), t.n, t.top
FROM large AS a CROSS JOIN LATERAL (SELECT count(*) AS n, max(price) AS top FROM bids AS b WHERE b.auction = a.id AND price > 80000) AS t
UNION ALL
SELECT 'rows', a.id, strftime(a.ts, '%H:%M:%S.%g'), t.id, t.price
FROM large AS a CROSS JOIN LATERAL (SELECT * FROM bids AS b WHERE b.auction = a.id AND b.price > 80000) AS t;
