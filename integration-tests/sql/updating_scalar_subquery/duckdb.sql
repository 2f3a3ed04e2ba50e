SELECT b.id, b.price, CAST((SELECT count(*) FROM auctions a WHERE a.id = b.auction) AS BIGINT)
FROM bids b WHERE b.price > (SELECT max(price) - 2000 FROM bids);
