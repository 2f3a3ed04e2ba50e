SELECT bidder, count(*), min(dateTime), max(dateTime) + to_seconds(10) FROM (
  SELECT *, sum(fresh) OVER (PARTITION BY bidder ORDER BY dateTime ROWS UNBOUNDED PRECEDING) AS session FROM (
    SELECT *, CASE WHEN dateTime - lag(dateTime) OVER (PARTITION BY bidder ORDER BY dateTime) <= to_seconds(10)
                   THEN 0 ELSE 1 END AS fresh
    FROM bid))
GROUP BY bidder, session;
