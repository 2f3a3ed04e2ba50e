WITH pairs AS (SELECT a.ts AS auction_ts, b.ts AS bid_ts
FROM auctions a JOIN bids b ON a.id = b.auction AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '20' SECOND)
SELECT bucket(bid_ts, 10), count(*), 'bids' FROM pairs GROUP BY 1
UNION ALL
SELECT bucket(auction_ts, 10), count(*), 'auctions' FROM pairs GROUP BY 1;
