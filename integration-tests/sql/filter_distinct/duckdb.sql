SELECT channel, bucket(ts, 30), count(*), count(*) FILTER (WHERE price < 20000), count(DISTINCT bidder),
       count(DISTINCT bidder) FILTER (WHERE price < 20000), sum(DISTINCT price)::BIGINT
FROM bids GROUP BY 1, 2 HAVING count(*) > 3;
