-- Rows of the query itself, a SELECT without FROM, the options of a hint, and names of a database.
CREATE DATABASE shop;
USE shop;

CREATE TABLE result (n BIGINT, label STRING, price DECIMAL(6, 2), found BOOLEAN)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv', 'sink.parallelism' = '1');

CREATE VIEW rows_of_the_query AS
SELECT n * 2 AS n, UPPER(label) AS label, price, n > 1 AS found
FROM (VALUES (1, 'one', 1.5), (2, NULL, 20.25), (NULL, U&'caf\00e9', NULL), (1 + 3, 'a' || 'b', 0.01)) AS t(n, label, price);

INSERT INTO shop.result
SELECT * FROM rows_of_the_query
UNION ALL
SELECT 7, 'single ' || 'row', CAST(0.5 AS DECIMAL(6, 2)), CAST(NULL AS BOOLEAN)
UNION ALL
SELECT id, channel, CAST(fee AS DECIMAL(6, 2)), price > 50000 FROM bids /*+ OPTIONS('csv.allow-comments' = 'true') */ AS b
WHERE b.auction = 1001;
