-- WITH: several named queries, one of which reads another.
CREATE TABLE result (id BIGINT, bidder BIGINT, cents BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
WITH known AS (SELECT * FROM bids WHERE price IS NOT NULL),
     dear AS (SELECT id, bidder, price * 100 AS cents FROM known WHERE price > 70000),
     cheap (i, b, c) AS (SELECT id, bidder, price * 100 FROM known WHERE price < 3000)
SELECT * FROM dear UNION ALL SELECT i, b, c FROM cheap;
