SELECT id, price, channel, auction = 1000 AND channel = 'apple' FROM bids WHERE id % 6 = 4;
