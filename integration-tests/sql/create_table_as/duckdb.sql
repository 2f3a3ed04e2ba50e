SELECT id, upper(channel), price // 100 FROM bids WHERE id % 3 = 1;
