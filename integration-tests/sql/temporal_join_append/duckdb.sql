SELECT b.id, v.reserve FROM bids b ASOF JOIN auctions v
ON v.category = CASE b.auction % 4 WHEN 0 THEN 'art' WHEN 1 THEN 'cars' WHEN 2 THEN 'wine' END AND b.ts >= v.ts
WHERE v.reserve > 50;
