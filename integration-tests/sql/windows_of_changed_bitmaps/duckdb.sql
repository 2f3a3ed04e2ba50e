CREATE MACRO bitmap(l) AS '{' || array_to_string(list_sort(list_distinct(list_filter(l, lambda x: x IS NOT NULL))), ',') || '}';
CREATE TABLE changes AS SELECT * FROM read_json('${DATA}/orders.json', format = 'newline_delimited', columns = {
  'before': 'STRUCT(id BIGINT, shop VARCHAR, amount BIGINT, fee DOUBLE, ts TIMESTAMP)',
  'after': 'STRUCT(id BIGINT, shop VARCHAR, amount BIGINT, fee DOUBLE, ts TIMESTAMP)', 'op': 'VARCHAR'});
CREATE TABLE orders AS
SELECT unnest(o) FROM (
  SELECT o, sum(w) AS w FROM (
    SELECT after AS o, 1 AS w FROM changes WHERE after IS NOT NULL
    UNION ALL SELECT before, -1 FROM changes WHERE before IS NOT NULL) GROUP BY o)
WHERE w > 0;
CREATE TABLE amounts AS SELECT shop, bucket(ts, 4) AS w, amount, count(*) AS times FROM orders WHERE amount IS NOT NULL GROUP BY ALL;
CREATE TABLE halves AS SELECT shop, bucket(ts, 4) AS w, quantile_cont(amount, 0.5) AS p FROM orders, range(id % 3) GROUP BY ALL;
SELECT 'changes', shop, bucket(ts, 4), bitmap(list(amount)), count(DISTINCT id),
  (SELECT count(*) FROM amounts AS a WHERE a.shop IS NOT DISTINCT FROM o.shop AND a.w = bucket(o.ts, 4) AND a.times % 2 = 1),
  (SELECT p FROM halves AS h WHERE h.shop IS NOT DISTINCT FROM o.shop AND h.w = bucket(o.ts, 4))::DECIMAL(20, 3)
FROM orders AS o GROUP BY shop, bucket(ts, 4);
