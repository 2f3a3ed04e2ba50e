SELECT n, channel, count(*), sum(total)::BIGINT, round(sum(total)::DECIMAL(20, 2) / count(*), 2)::DECIMAL(20, 2), min(total)::BIGINT,
  max(url), count(DISTINCT fee)
FROM (
  SELECT bidder, count(*) AS n, sum(price)::BIGINT AS total, max(channel) AS channel, min(url) AS url, max(fee) AS fee
  FROM bids GROUP BY bidder HAVING count(*) > 1
)
GROUP BY n, channel;
