SELECT bucket(s, 30), max(n), sum(n)::BIGINT FROM (SELECT bucket(ts, 10) AS s, auction, count(*) AS n FROM bids GROUP BY 1, 2) GROUP BY 1;
