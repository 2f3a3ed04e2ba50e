SELECT 'bid', id, price FROM bids WHERE price > 80000 UNION ALL SELECT 'auction', auction.id, reserve FROM auctions WHERE reserve > 1500;
