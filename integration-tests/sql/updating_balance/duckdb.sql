SELECT sum(amount)::BIGINT, sum(n)::BIGINT, count(*) FROM (
  SELECT auction AS account, -sum(price) AS amount, count(*) AS n FROM bids GROUP BY auction
  UNION ALL
  SELECT bidder AS account, sum(price) AS amount, count(*) AS n FROM bids GROUP BY bidder
);
