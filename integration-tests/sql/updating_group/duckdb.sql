SELECT channel, count(*), count(price), sum(price)::BIGINT, min(price), max(price), sum(fee)::DECIMAL(18, 2), min(url),
       count(*) FILTER (WHERE price > 50000), count(DISTINCT auction)
FROM bids GROUP BY 1;
