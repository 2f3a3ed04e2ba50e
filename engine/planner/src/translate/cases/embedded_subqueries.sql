CREATE TABLE changes_of_names (k BIGINT, name VARCHAR) WITH ('connector' = 'print');
INSERT INTO changes_of_names SELECT k, name FROM clicks WHERE price > 5 OR EXISTS (SELECT 1 FROM orders WHERE orders.k = clicks.k);
INSERT INTO changes_of_names SELECT k, CASE WHEN k IN (SELECT k FROM orders) THEN 'bought' ELSE name END FROM clicks;
INSERT INTO changes_of_names SELECT k, CAST(k NOT IN (SELECT k FROM orders) AS STRING) FROM clicks;
