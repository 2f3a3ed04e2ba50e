SELECT id, price::VARCHAR, trunc(fee)::INT, ts::DATE, date_trunc('second', ts)::TIME, price <> 0, id * 10, fee::VARCHAR, NULL,
       date_trunc('second', ts)
FROM bids WHERE id % 8 = 5;
