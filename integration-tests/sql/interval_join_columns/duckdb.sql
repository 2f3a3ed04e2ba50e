SELECT a.id, b.id, b.price
FROM (SELECT id, ts, ts + to_seconds(reserve) AS expires FROM auctions WHERE category = 'art') a
JOIN bids b ON a.id = b.auction AND b.ts >= a.ts AND b.ts < a.expires;
