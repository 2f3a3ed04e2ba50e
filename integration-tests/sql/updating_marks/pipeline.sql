-- EXISTS and IN within other expressions: under OR, in CASE and in the SELECT list.
-- key columns: 3
CREATE TABLE result (id BIGINT, time STRING, query STRING, value STRING)
WITH ('connector' = 'print');

INSERT INTO result
SELECT id, DATE_FORMAT(ts, 'HH:mm:ss.SSS'), 'or', CAST(reserve AS STRING) FROM auctions
WHERE category = 'art' OR EXISTS (SELECT 1 FROM bids AS b WHERE b.auction = auctions.id AND b.price > 80000)
UNION ALL
SELECT id, DATE_FORMAT(ts, 'HH:mm:ss.SSS'), 'or in', CAST(reserve AS STRING) FROM auctions
WHERE reserve IN (SELECT bidder FROM bids) OR id IN (SELECT auction FROM bids WHERE price IS NULL) OR reserve < 50
UNION ALL
SELECT id, DATE_FORMAT(ts, 'HH:mm:ss.SSS'), 'correlated',
  CASE WHEN id % 25 + 10 NOT IN (SELECT bidder FROM bids AS b WHERE b.auction = a.id) THEN 'none'
       WHEN EXISTS (SELECT 1 FROM bids AS b WHERE b.auction = a.id AND b.price > 85000 LIMIT 1) THEN 'high' ELSE 'low' END
FROM auctions AS a
UNION ALL
SELECT id, DATE_FORMAT(ts, 'HH:mm:ss.SSS'), 'correlated in',
  CAST((category = 'art') IN (SELECT b.price > 88000 FROM bids AS b WHERE b.auction = a.id) AS STRING)
FROM auctions AS a;
