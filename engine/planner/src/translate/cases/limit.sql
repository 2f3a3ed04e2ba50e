INSERT INTO names SELECT k, name FROM clicks LIMIT 10;
