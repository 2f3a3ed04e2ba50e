WITH counts AS (
  SELECT auction, w AS starttime, count(*) AS num
  FROM (SELECT *, bucket(ts, 5) - seconds(5 * k) AS w FROM bids, (SELECT unnest(range(3)) AS k)) GROUP BY 1, 2)
SELECT auction, num, starttime FROM counts QUALIFY num = max(num) OVER (PARTITION BY starttime);
