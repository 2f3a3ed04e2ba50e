SELECT bidder, count(*), min(ts), max(ts) + seconds(4), sum(price)::BIGINT FROM (
  SELECT *, sum(fresh) OVER (PARTITION BY bidder ORDER BY ts ROWS UNBOUNDED PRECEDING) AS session FROM (
    SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY bidder ORDER BY ts) <= seconds(4) THEN 0 ELSE 1 END AS fresh
    FROM bids))
GROUP BY bidder, session;
