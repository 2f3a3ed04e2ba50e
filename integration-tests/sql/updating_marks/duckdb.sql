WITH queries AS (
SELECT id, ts, 'or', reserve::VARCHAR FROM auctions
WHERE category = 'art' OR EXISTS (SELECT 1 FROM bids AS b WHERE b.auction = auctions.id AND b.price > 80000)
UNION ALL
SELECT id, ts, 'or in', reserve::VARCHAR FROM auctions
WHERE reserve IN (SELECT bidder FROM bids) OR id IN (SELECT auction FROM bids WHERE price IS NULL) OR reserve < 50
UNION ALL
SELECT id, ts, 'correlated',
  CASE WHEN id % 25 + 10 NOT IN (SELECT bidder FROM bids AS b WHERE b.auction = a.id) THEN 'none'
       WHEN EXISTS (SELECT 1 FROM bids AS b WHERE b.auction = a.id AND b.price > 85000) THEN 'high' ELSE 'low' END
FROM auctions AS a
UNION ALL
SELECT id, ts, 'correlated in', upper(((category = 'art') IN (SELECT b.price > 88000 FROM bids AS b WHERE b.auction = a.id))::VARCHAR)
FROM auctions AS a)
SELECT COLUMNS(*) FROM (SELECT id, strftime(ts, '%H:%M:%S.%g'), * EXCLUDE (id, ts) FROM queries);
