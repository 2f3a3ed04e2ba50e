SELECT a.id, 'no bid' FROM auctions a WHERE NOT EXISTS (
  SELECT 1 FROM bids b WHERE b.auction = a.id AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '10' SECOND)
UNION ALL
SELECT a.id, 'bid' FROM auctions a WHERE EXISTS (
  SELECT 1 FROM bids b WHERE b.auction = a.id AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '10' SECOND);
