INSERT INTO counts SELECT k, price, ts FROM clicks WHERE price > (SELECT max(amount) FROM orders);
