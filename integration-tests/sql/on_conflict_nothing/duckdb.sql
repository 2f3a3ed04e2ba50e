SELECT DISTINCT n, channel, n + n FROM (
  SELECT auction, count(*) AS n, max(channel) AS channel FROM bids GROUP BY auction
  UNION ALL
  SELECT bidder, count(*) % 10, min(channel) FROM bids WHERE price > 50000 GROUP BY bidder);
