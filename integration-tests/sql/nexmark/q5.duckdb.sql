WITH counts AS (
  SELECT auction, bucket(dateTime, 2) - to_seconds(2 * shift) AS start, count(*) AS num
  FROM bid, range(5) AS shifts(shift) GROUP BY ALL)
SELECT auction, num FROM counts
QUALIFY num = max(num) OVER (PARTITION BY start);
