SELECT auction, w, w + seconds(10), count(*), sum(price)::BIGINT, max(price)
FROM (SELECT *, bucket(ts, 2) - seconds(2 * k) AS w FROM bids, (SELECT unnest(range(5)) AS k)) GROUP BY 1, 2, 3;
