INSERT INTO counts SELECT k, price, CAST(p AS TIMESTAMP(3)) FROM clicks;
