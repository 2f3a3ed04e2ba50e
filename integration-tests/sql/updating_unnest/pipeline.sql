-- UNNEST of rows that are updated: of an array of each row, and of all values of a group, below another aggregate.
-- key columns: 4
CREATE TABLE orders (
  id BIGINT, shop STRING, amount BIGINT, fee DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'debezium-json', 'scan.rate-limit' = '${RATE}'
);

CREATE TABLE result (kind STRING, id BIGINT, part STRING, place BIGINT, n BIGINT) WITH ('connector' = 'print');

CREATE VIEW amounts AS SELECT shop, ARRAY_AGG(amount / 10) AS tens FROM orders GROUP BY shop;

INSERT INTO result
SELECT 'rows', id, part, CAST(place AS BIGINT), amount FROM orders
CROSS JOIN UNNEST(ARRAY[shop, CAST(amount AS STRING), 'all']) WITH ORDINALITY AS t(part, place)
UNION ALL
SELECT 'outer', id, part, CAST(place AS BIGINT), 0 FROM orders
LEFT JOIN UNNEST(CASE WHEN amount > 250 THEN ARRAY[shop] END) WITH ORDINALITY AS t(part, place) ON TRUE
UNION ALL
SELECT 'groups', ten, shop, COUNT(*), SUM(ten) FROM amounts CROSS JOIN UNNEST(tens) AS ten GROUP BY ten, shop;
