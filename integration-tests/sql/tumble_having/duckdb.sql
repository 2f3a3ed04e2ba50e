SELECT bucket(ts, 10), channel, count(*), count(*) FILTER (WHERE price > 60000), sum(price)::BIGINT
FROM bids WHERE channel IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 4 AND sum(price) > 300000;
