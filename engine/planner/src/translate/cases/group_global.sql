INSERT INTO names SELECT count(DISTINCT k), max(name) FROM clicks WHERE price > 3;
