INSERT INTO names SELECT k, name FROM clicks;
INSERT INTO counts SELECT k, price, ts FROM clicks WHERE price > 10;
