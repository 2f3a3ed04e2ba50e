SELECT id, CASE WHEN price < 1000 THEN 'small' WHEN price < 50000 THEN 'middle' WHEN price IS NULL THEN 'none' ELSE 'large' END,
       CASE WHEN channel IN ('apple', 'google') THEN 'search' WHEN channel = 'facebook' THEN 'social' ELSE 'other' END,
       CASE WHEN id % 2 = 0 THEN 'even' ELSE 'odd' END, coalesce(price, bidder, 0), nullif(bidder, 15), ifnull(price, -1)
FROM bids WHERE id % 3 = 0;
