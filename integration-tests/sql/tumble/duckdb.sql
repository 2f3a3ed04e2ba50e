SELECT channel, bucket(ts, 10), bucket(ts, 10) + seconds(10), count(*), count(price), sum(price)::BIGINT, min(price), max(price),
       sum(fee)::DECIMAL(18, 2), min(url), avg(price::DOUBLE)::DECIMAL(20, 4)
FROM bids GROUP BY 1, 2, 3;
