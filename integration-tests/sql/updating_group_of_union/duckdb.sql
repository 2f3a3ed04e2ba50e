SELECT k, count(*), count(price), (sum(price) - sum(reserve))::BIGINT
FROM (SELECT auction AS k, price, NULL::BIGINT AS reserve FROM bids UNION ALL SELECT auction.id, NULL, reserve FROM auctions) GROUP BY k;
