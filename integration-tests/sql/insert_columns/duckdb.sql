SELECT id, NULL, price, NULL FROM bids WHERE id % 3 = 2;
