SELECT bucket(ts, 4), bool_and(price > 100), bool_or(price = 1), min(ts), max(channel), sum(fee)::DECIMAL(20, 2) FROM bids GROUP BY 1;
