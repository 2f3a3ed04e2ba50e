SELECT b.id, a.id, a.category, b.price, a.reserve
FROM bids b JOIN auctions a ON b.auction = a.id AND b.price > a.reserve * 1000;
