-- The share of promoted parts in the revenue of some months.
SELECT CAST(100.00 * CAST(SUM(CASE WHEN p_type LIKE 'PROMO%' THEN l_extendedprice * (1 - l_discount) ELSE 0 END) AS DOUBLE)
  / CAST(SUM(l_extendedprice * (1 - l_discount)) AS DOUBLE) AS DECIMAL(10, 4)) AS promo_revenue
FROM lineitem, part
WHERE l_partkey = p_partkey AND l_shipdate >= DATE '1995-09-01' AND l_shipdate < DATE '1995-09-01' + INTERVAL '3' MONTH
