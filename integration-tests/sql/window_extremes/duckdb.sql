WITH hops AS (SELECT *, bucket(ts, 5) - seconds(5 * k) AS w FROM bids, (SELECT unnest(range(2)) AS k)),
tumbles AS (SELECT *, bucket(ts, 10) AS w FROM bids WHERE price > 20000)
SELECT 'highest', id, auction, price, w + seconds(10)
FROM hops JOIN (SELECT auction, max(price) AS price, w FROM hops GROUP BY auction, w) USING (auction, price, w)
UNION ALL
SELECT 'cheapest', B.id, B.auction, B.price, M.w + seconds(10)
FROM (SELECT min(fee) AS fee, w FROM tumbles GROUP BY w) M
LEFT JOIN (SELECT * FROM tumbles WHERE auction > 1005) B USING (fee, w);
