-- Makes the example's data: 50,000 orders of 40 products over about 14 hours. Everything follows from the sequence number, so
-- each run writes the same rows.

SET 'pipeline.name' = 'order-generator';

CREATE TABLE numbers (
  n BIGINT
) WITH (
  'connector' = 'datagen',
  'rows-per-second' = '100000000',
  'fields.n.kind' = 'sequence',
  'fields.n.start' = '0',
  'fields.n.end' = '49999'
);

CREATE TABLE orders (
  order_id BIGINT, product STRING, price DECIMAL(8, 2), quantity INT, ordered TIMESTAMP(3)
) WITH ('connector' = 'filesystem', 'path' = 'examples/top-products/data/orders', 'format' = 'json');

-- The product follows from the square of the number, so that some are ordered more often than others.
INSERT INTO orders
SELECT
  n,
  CONCAT('product-', LPAD(CAST(MOD(MOD(n * n, 1009) + n / 3600, 40) AS STRING), 2, '0')),
  CAST(5 + MOD(n * 37, 9000) / 100.0 AS DECIMAL(8, 2)),
  CAST(1 + MOD(n, 3) AS INT),
  CAST(TO_TIMESTAMP_LTZ(1767225600000 + n * 1000, 3) AS TIMESTAMP(3))
FROM numbers;
