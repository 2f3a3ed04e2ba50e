SELECT auction, n FROM (SELECT auction, count(*) AS n, sum(price) AS total FROM bids GROUP BY auction)
ORDER BY total DESC, auction LIMIT 3;
