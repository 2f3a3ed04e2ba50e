CREATE MACRO months(m) AS '+' || (m // 12)::VARCHAR || '-' || lpad((m % 12)::VARCHAR, 2, '0');
WITH marks AS (SELECT id, second(ts) AS s, price % 50 AS m FROM bids)
SELECT '+0 00:00:' || lpad(s::VARCHAR, 2, '0') || '.000', count(*), months(min(m)), months(max(m)), count(DISTINCT m)
FROM marks WHERE s IN (SELECT s FROM marks WHERE id % 3 = 0) GROUP BY s;
