SELECT channel, count(*), sum(price)::BIGINT FROM (
  SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY id DESC) AS rn FROM bids) WHERE rn = 1 AND channel IS NOT NULL GROUP BY 1;
