SELECT bucket(ts, 12), min(id), max(id), first(id ORDER BY coalesce(price, 99999999), id) FROM bids GROUP BY 1;
