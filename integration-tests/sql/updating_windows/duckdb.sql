SELECT channel, count(*), max(n), sum(n)::BIGINT
FROM (SELECT channel, count(*) AS n FROM bids GROUP BY channel, bucket(ts, 10)) GROUP BY channel;
