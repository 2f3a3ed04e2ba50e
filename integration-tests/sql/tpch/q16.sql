-- The number of suppliers of parts, without those that customers complained of.
SELECT p_brand, p_type, p_size, COUNT(DISTINCT ps_suppkey) AS supplier_cnt
FROM partsupp, part
WHERE p_partkey = ps_partkey AND p_brand <> 'Brand#13' AND p_type NOT LIKE 'MEDIUM POLISHED%'
  AND p_size IN (1, 3, 4, 5, 9, 12, 14)
  AND ps_suppkey NOT IN (SELECT s_suppkey FROM supplier WHERE s_comment LIKE '%Customer%Complaints%')
GROUP BY p_brand, p_type, p_size
