-- Functions of integers and decimals.
CREATE TABLE result (id BIGINT, a BIGINT, m BIGINT, s BIGINT, q BIGINT, r BIGINT, cl DECIMAL(8, 0), fl DECIMAL(8, 0), rnd DECIMAL(8, 1), tr DECIMAL(8, 1), g BIGINT, l BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, ABS(50000 - price), MOD(price, 97), SIGN(price - 50000), price / 7, (price - 50000) % 11, CEIL(fee), FLOOR(fee),
       ROUND(fee, 1), TRUNCATE(fee, 1), GREATEST(price, 40000, id), LEAST(price, 40000, id)
FROM bids WHERE MOD(id, 4) = 3;
