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
SELECT shop, strftime(w, '%M:%S'), count(*), sum(amount)::BIGINT
FROM (SELECT *, bucket(ts, 30) + seconds(10 * k) AS w FROM orders, (SELECT unnest([1, 2, 3]) AS k)) AS o WHERE ts < w
GROUP BY 1, 2;
