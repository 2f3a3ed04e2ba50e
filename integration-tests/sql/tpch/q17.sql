-- The revenue of orders of small quantities.
SELECT CAST(CAST(SUM(l_extendedprice) AS DOUBLE) / 7.0 AS DECIMAL(15, 2)) AS avg_yearly
FROM lineitem, part
WHERE p_partkey = l_partkey AND p_brand = 'Brand#23' AND l_quantity < (
  SELECT 0.5 * AVG(CAST(l_quantity AS DOUBLE)) FROM lineitem WHERE l_partkey = p_partkey)
