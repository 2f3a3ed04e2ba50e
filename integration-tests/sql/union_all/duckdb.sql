SELECT kind, bucket(ts, 10), count(*), sum(id)::BIGINT
FROM (SELECT 'bid' AS kind, auction AS id, ts FROM bids UNION ALL SELECT 'auction', id, ts FROM auctions) GROUP BY 1, 2;
