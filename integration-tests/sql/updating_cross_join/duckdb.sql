SELECT l.channel, r.channel, l.n, r.n
FROM (SELECT channel, count(*) AS n FROM bids GROUP BY channel) l
JOIN (SELECT channel, count(*) AS n FROM bids GROUP BY channel) r ON l.n > r.n;
