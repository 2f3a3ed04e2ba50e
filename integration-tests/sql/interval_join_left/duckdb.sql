SELECT a.id, b.id, a.category
FROM auctions a LEFT JOIN bids b ON a.id = b.auction AND b.ts BETWEEN a.ts - INTERVAL '5' SECOND AND a.ts + INTERVAL '20' SECOND;
