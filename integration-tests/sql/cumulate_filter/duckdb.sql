SELECT s, e, count(*), max(price)
FROM (SELECT ts, price, bucket(ts, 60) AS s, unnest([bucket(ts, 60) + seconds(20), bucket(ts, 60) + seconds(40), bucket(ts, 60) + seconds(60)]) AS e
      FROM bids WHERE channel <> 'apple')
WHERE ts < e GROUP BY s, e;
