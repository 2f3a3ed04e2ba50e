-- Columns of a sink in another order, and columns without a value.
CREATE TABLE result (a BIGINT, b STRING, c BIGINT, d TIMESTAMP(3))
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result (c, a) SELECT price, id FROM bids WHERE MOD(id, 3) = 2;
