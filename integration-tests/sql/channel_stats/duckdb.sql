SELECT channel, w, count(*), count(*) FILTER (WHERE price < 10000), count(*) FILTER (WHERE price >= 10000),
       count(DISTINCT bidder), count(DISTINCT bidder) FILTER (WHERE price < 10000),
       count(DISTINCT bidder) FILTER (WHERE price >= 10000), count(DISTINCT auction),
       count(DISTINCT auction) FILTER (WHERE price < 10000)
FROM (SELECT *, bucket(ts, 10) - seconds(10 * k) AS w FROM bids, (SELECT unnest(range(3)) AS k)) GROUP BY 1, 2;
