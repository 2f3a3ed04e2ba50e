SELECT a.id, strftime(a.ts, '%H:%M:%S.%g'), a.category FROM auctions a
WHERE NOT EXISTS (SELECT 1 FROM bids b WHERE b.auction = a.id AND b.price > a.reserve * 5000);
