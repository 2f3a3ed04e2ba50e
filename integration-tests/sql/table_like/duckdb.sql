SELECT id, price // 100, date_trunc('minute', ts) FROM bids WHERE id % 4 = 0;
