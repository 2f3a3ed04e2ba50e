SELECT bucket(ts, 10), kind, count(*), max(v)
FROM (SELECT 'bid' AS kind, price AS v, ts FROM bids UNION ALL SELECT category, reserve, ts FROM auctions) GROUP BY 1, 2;
