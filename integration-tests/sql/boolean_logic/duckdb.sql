SELECT bucket(ts, 30), count(*),
       sum(CASE bidder % 3 WHEN 1 THEN 1000 WHEN 2 THEN 500 END)::BIGINT,
       count(DISTINCT CASE WHEN bidder IS NOT NULL AND channel IS NOT NULL THEN (bidder, channel) END),
       sum(price % 1000)::BIGINT, (sum(price % 1000) // count(price))::INT,
       (((sum(fee) * 100)::BIGINT * 20000 + count(fee)) // (2 * count(fee)) / 1000000)::DECIMAL(12, 6)
FROM bids
WHERE bidder % 3 IN (1, 2) AND price IS DISTINCT FROM 7 OR bidder % 3 = 0 AND channel <> ''
GROUP BY 1;
