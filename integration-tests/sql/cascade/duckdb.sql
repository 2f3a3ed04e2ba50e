SELECT bucket(w, 20), count(*), sum(n)::BIGINT, max(n)
FROM (SELECT auction, bucket(ts, 5) AS w, count(*) AS n FROM bids GROUP BY 1, 2) GROUP BY 1;
