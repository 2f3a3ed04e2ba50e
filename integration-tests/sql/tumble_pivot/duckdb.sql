SELECT bucket(ts, 20) + seconds(20), sum(CASE WHEN channel = 'apple' THEN price END)::BIGINT,
       sum(CASE WHEN channel = 'google' THEN price ELSE 0 END)::BIGINT, max(CASE WHEN channel = 'baidu' THEN price END),
       count(*) - count(channel), sum(price)::BIGINT // count(price)
FROM bids GROUP BY 1;
