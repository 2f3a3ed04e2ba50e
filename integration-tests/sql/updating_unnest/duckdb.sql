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
SELECT 'rows', id, unnest([shop, amount::VARCHAR, 'all']), unnest([1, 2, 3]), amount FROM orders
UNION ALL
SELECT 'outer', id, CASE WHEN amount > 250 THEN shop END, CASE WHEN amount > 250 THEN 1 END, 0 FROM orders
UNION ALL
SELECT 'groups', amount // 10, shop, count(*), sum(amount // 10)::BIGINT FROM orders GROUP BY amount // 10, shop;
