INSERT INTO names SELECT k + 1, upper(name) FROM clicks WHERE price > 10 AND name LIKE 'a%';
