SELECT id, bidder, price * 100 FROM bids WHERE price > 70000 OR price < 3000;
