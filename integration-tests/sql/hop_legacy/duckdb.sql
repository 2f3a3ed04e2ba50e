SELECT s, s + seconds(20), channel, sum(price)::BIGINT
FROM (SELECT channel, price, unnest([bucket(ts, 10), bucket(ts, 10) - seconds(10)]) AS s FROM bids WHERE price > 30000) GROUP BY s, channel;
