SELECT bidder, count(*), sum(price)::BIGINT FROM bids GROUP BY 1 HAVING count(*) > 3 AND sum(price) % 7 < 5;
