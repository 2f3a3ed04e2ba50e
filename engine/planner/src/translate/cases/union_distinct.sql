INSERT INTO names SELECT k, name FROM clicks UNION SELECT k, 'order' FROM orders;
