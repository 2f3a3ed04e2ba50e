WITH changes AS (
  SELECT * FROM read_json('${DATA}/orders.json', format = 'newline_delimited', columns = {
    'before': 'STRUCT(id BIGINT, shop VARCHAR, amount BIGINT, fee DOUBLE, ts TIMESTAMP)',
    'after': 'STRUCT(id BIGINT, shop VARCHAR, amount BIGINT, fee DOUBLE, ts TIMESTAMP)', 'op': 'VARCHAR'})),
orders AS (
  SELECT unnest(o) FROM (
    SELECT o, sum(w) AS w FROM (
      SELECT after AS o, 1 AS w FROM changes WHERE after IS NOT NULL
      UNION ALL SELECT before, -1 FROM changes WHERE before IS NOT NULL) GROUP BY o)
  WHERE w > 0)
SELECT 'tumble', shop, bucket(ts, 4), count(*), sum(amount)::BIGINT, min(amount), max(amount), count(DISTINCT amount),
  count(*) FILTER (WHERE amount < 100), first(id ORDER BY ts, id), avg(fee), string_agg(id::VARCHAR, '-' ORDER BY id)
FROM orders GROUP BY 1, 2, 3
UNION ALL
SELECT 'hop', shop, w, count(*), sum(amount)::BIGINT, min(amount), max(amount), count(DISTINCT amount),
  count(*) FILTER (WHERE amount < 100), first(id ORDER BY ts, id), avg(fee), string_agg(id::VARCHAR, '-' ORDER BY id)
FROM (SELECT *, bucket(ts, 2) - seconds(2 * k) AS w FROM orders, (SELECT unnest(range(3)) AS k)) GROUP BY 1, 2, 3;
