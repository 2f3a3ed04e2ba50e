SELECT id, price, NULL, 2, 2, bidder, 'auction price' FROM bids WHERE id % 5 = 2;
