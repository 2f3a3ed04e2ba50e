-- BETWEEN, IN and LIKE, and their negations.
CREATE TABLE result (id BIGINT, a BOOLEAN, b BOOLEAN, c BOOLEAN, d BOOLEAN, e BOOLEAN)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, price BETWEEN 10000 AND 50000, price BETWEEN SYMMETRIC 50000 AND 10000, channel NOT IN ('apple', 'baidu'),
       url LIKE '%/item/1_?%', channel NOT LIKE '%-%'
FROM bids WHERE id BETWEEN 100 AND 900 AND auction NOT BETWEEN 1000 AND 1002;
