SELECT a.id, strftime(a.ts, '%H:%M:%S.%g'), b.id, a.category, b.price
FROM auctions a LEFT JOIN bids b ON a.id = b.auction AND b.price > 85000;
