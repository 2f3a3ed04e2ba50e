SELECT auction, min(ts), max(ts) + seconds(6), count(*), max(price) FROM (
  SELECT *, sum(fresh) OVER (PARTITION BY auction ORDER BY ts ROWS UNBOUNDED PRECEDING) AS session FROM (
    SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY auction ORDER BY ts) <= seconds(6) THEN 0 ELSE 1 END AS fresh
    FROM bids))
GROUP BY auction, session;
