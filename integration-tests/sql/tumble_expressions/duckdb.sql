SELECT bucket(ts, 30), upper(substring(channel, 1, 1)), sum(price)::BIGINT // count(*), max(price) - min(price), count(*) * 2
FROM bids GROUP BY 1, 2;
