-- Rows of changes that carry their windows: cumulating windows of normalised changes, aggregated without the window.
-- key columns: 2
CREATE TABLE orders (
  id BIGINT, shop STRING, amount BIGINT, fee DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, PRIMARY KEY (id) NOT ENFORCED
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'debezium-json', 'scan.rate-limit' = '${RATE}'
);

CREATE TABLE result (shop STRING, minute STRING, n BIGINT, total BIGINT, PRIMARY KEY (shop, minute) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT shop, minute, count(*), sum(amount)
FROM (
  SELECT shop, DATE_FORMAT(window_end, 'mm:ss') AS minute, amount
  FROM TABLE(CUMULATE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '30' SECOND))
)
GROUP BY shop, minute;
