SELECT auction, count(*), count(*) FILTER (WHERE channel = 'apple'), (sum(price) FILTER (WHERE price > 80000))::BIGINT,
       max(price) FILTER (WHERE price < 0)
FROM bids GROUP BY auction;
