SELECT s, s + seconds(15), auction, count(*)
FROM (SELECT auction, unnest([bucket(ts, 5), bucket(ts, 5) - seconds(5), bucket(ts, 5) - seconds(10)]) AS s FROM bids) GROUP BY s, auction
HAVING count(*) >= 12;
