SELECT id, (auction - 1000) * 2 + 1, 'bid ' || id FROM bids WHERE channel = 'google' AND auction - 1000 > 5 AND id > 200;
