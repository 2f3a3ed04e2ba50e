SELECT b.id, a.id, strftime(a.ts, '%H:%M:%S.%g'), a.category
FROM auctions a RIGHT JOIN bids b ON a.id + 1 = b.auction AND a.category = 'art' AND a.reserve > b.fee * 100;
