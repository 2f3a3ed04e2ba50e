-- A lookup join: bids wait until the table, a file, is read.
CREATE TABLE names (auction BIGINT, name STRING)
WITH ('connector' = 'filesystem', 'path' = '${DATA}/names.csv', 'format' = 'csv');

CREATE TABLE result (id BIGINT, name STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT b.id, n.name
FROM (SELECT *, PROCTIME() AS p FROM bids) AS b
LEFT JOIN names FOR SYSTEM_TIME AS OF b.p AS n ON b.auction = n.auction AND b.price > 20000;
