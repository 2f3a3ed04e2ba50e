SELECT b.id, a.id, strftime(a.ts, '%H:%M:%S.%g'), b.price, a.reserve
FROM bids b FULL JOIN auctions a ON b.auction = a.id AND b.price * 10 < a.reserve;
