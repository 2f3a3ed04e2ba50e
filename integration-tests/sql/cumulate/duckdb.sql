SELECT bidder, w, w + seconds(5 * k), count(*), count(DISTINCT auction)
FROM (SELECT *, bucket(ts, 20) AS w, bucket(ts, 5) AS slice FROM bids), (SELECT unnest(range(1, 5)) AS k)
WHERE slice < w + seconds(5 * k) GROUP BY 1, 2, 3;
