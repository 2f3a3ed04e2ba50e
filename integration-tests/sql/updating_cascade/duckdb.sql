SELECT n, count(*), count(DISTINCT channel), sum(total)::BIGINT, sum(total)::BIGINT // count(*), min(total), max(total),
  max(channel)
FROM (SELECT bidder, count(*) AS n, sum(price)::BIGINT AS total, min(channel) AS channel FROM bids GROUP BY bidder)
GROUP BY n;
