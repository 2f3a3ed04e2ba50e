SELECT auction, bucket(ts, 60), stddev_pop(price)::DECIMAL(20, 3), median(price::DOUBLE)::DECIMAL(20, 2),
       string_agg(id::VARCHAR, '|' ORDER BY id), first(id ORDER BY ts, id), last(id ORDER BY ts, id),
       bool_and(price IS NOT NULL), bit_xor(id)
FROM bids GROUP BY 1, 2;
