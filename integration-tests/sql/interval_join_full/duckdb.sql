SELECT a.id, b.id, a.reserve, b.price
FROM auctions a FULL JOIN bids b ON a.id = b.auction AND b.ts BETWEEN a.ts - INTERVAL '5' SECOND AND a.ts + INTERVAL '20' SECOND AND b.price > a.reserve * 1000;
