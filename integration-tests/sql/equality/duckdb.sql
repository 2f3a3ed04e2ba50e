WITH signed AS (
  SELECT id, bidder, bucket(ts, 10) AS w, channel || '\%' AS pattern, channel || '\' || channel AS text,
         ((id % 3) * CASE WHEN id % 2 = 0 THEN 1 ELSE -1 END)::DOUBLE AS x
  FROM bids WHERE id >= 0
)
SELECT 'group', w, x, count(*), 1, count(DISTINCT bidder), 1 FROM signed GROUP BY w, x
UNION ALL
SELECT 'distinct', w, max(abs(x)), count(*), count(DISTINCT x), count(DISTINCT x), count(DISTINCT nullif(x, 0)) FROM signed GROUP BY w
UNION ALL
SELECT 'compare', w, min(x), count(*) FILTER (x = 0), count(*) FILTER (x = 0),
       sum(CASE x WHEN 0 THEN 1 WHEN 1 THEN 10 ELSE 100 END), count(*) FILTER (x < 0) FROM signed GROUP BY w
UNION ALL
SELECT 'like', w, NULL, count(*) FILTER (text LIKE pattern), count(*) FILTER (text NOT LIKE 'apple\apple'),
       count(*) FILTER (text LIKE '%\%'), count(*) FILTER (text LIKE 'a%\a%') FROM signed GROUP BY w
UNION ALL
SELECT 'join', w, abs(x), count(*) FILTER (id % 2 = 0), count(*) FILTER (id % 2 = 1), NULL, NULL
FROM signed GROUP BY w, x HAVING count(*) FILTER (id % 2 = 0) > 0 AND count(*) FILTER (id % 2 = 1) > 0
UNION ALL
SELECT * FROM (
  SELECT 'first', w, abs(x), id, row_number() OVER (PARTITION BY w, id % 3 ORDER BY id) AS rn, NULL, NULL FROM signed
  QUALIFY rn <= 2);
