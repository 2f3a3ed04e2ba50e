INSERT INTO names SELECT k, name FROM clicks WHERE price > 10;
INSERT INTO names SELECT k, name FROM clicks WHERE price < 3;
