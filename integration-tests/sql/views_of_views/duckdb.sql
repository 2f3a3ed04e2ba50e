SELECT id, bidder, price // 100, CASE WHEN price // 100 > 800 THEN 'high' ELSE 'low' END FROM bids WHERE price // 100 > 800 OR price // 100 < 20;
