SELECT bidder, min(channel), max(channel), bool_and(price > 10), bool_or(price > 89990) FROM bids GROUP BY 1;
