SELECT 'tumble', auction, bucket(ts, 30), bucket(ts, 30) + seconds(30), count(*) FROM bids GROUP BY 2, 3
UNION ALL
SELECT 'hop', auction, w, w + seconds(30), count(*)
FROM (SELECT *, bucket(ts, 10) - seconds(10 * k) AS w FROM bids, (SELECT unnest(range(3)) AS k)) GROUP BY 2, 3;
