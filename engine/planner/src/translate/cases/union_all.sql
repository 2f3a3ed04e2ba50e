INSERT INTO names SELECT k, name FROM clicks WHERE price > 10 UNION ALL SELECT k, 'order' FROM orders;
