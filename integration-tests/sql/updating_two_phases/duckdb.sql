SELECT 'auction', auction, count(*), count(*) FILTER (WHERE price > 50000), sum(price)::BIGINT, avg(bidder), min(price),
  max(price), sum(fee)::DECIMAL(18, 2)
FROM bids GROUP BY auction
UNION ALL
SELECT 'bids', n, count(*), count(total) FILTER (WHERE total > 100000), sum(total)::BIGINT, avg(n), NULL, NULL,
  sum(fees)::DECIMAL(18, 2)
FROM (SELECT bidder, count(*) AS n, sum(price)::BIGINT AS total, sum(fee) AS fees FROM bids GROUP BY bidder) GROUP BY n;
