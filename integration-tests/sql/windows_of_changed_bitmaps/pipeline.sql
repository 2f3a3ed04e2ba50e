-- Bitmaps and percentiles of windows whose rows are updated and deleted.
CREATE TABLE orders (
  id BIGINT, shop STRING, amount BIGINT, fee DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'debezium-json', 'scan.rate-limit' = '${RATE}'
);

CREATE TABLE result (kind STRING, k STRING, wstart TIMESTAMP(3), b STRING, n BIGINT, m BIGINT, p DECIMAL(20, 3))
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT 'changes', shop, window_start, BITMAP_TO_STRING(BITMAP_BUILD_AGG(amount)), BITMAP_BUILD_CARDINALITY_AGG(id),
  BITMAP_XOR_CARDINALITY_AGG(BITMAP_BUILD(ARRAY[amount])), CAST(PERCENTILE(amount, 0.5, id - 3 * (id / 3)) AS DECIMAL(20, 3))
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '4' SECOND)) GROUP BY shop, window_start, window_end;
