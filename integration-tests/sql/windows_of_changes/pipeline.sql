-- Windows over rows that are updated and deleted: a window has the rows that are left of it.
CREATE TABLE orders (
  id BIGINT, shop STRING, amount BIGINT, fee DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'debezium-json', 'scan.rate-limit' = '${RATE}'
);

CREATE TABLE result (
  kind STRING, shop STRING, wstart TIMESTAMP(3), n BIGINT, total BIGINT, low BIGINT, high BIGINT, amounts BIGINT, small BIGINT,
  earliest BIGINT, fees DOUBLE, ids STRING
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT 'tumble', shop, window_start, count(*), sum(amount), min(amount), max(amount), count(DISTINCT amount),
  count(*) FILTER (WHERE amount < 100), first_value(id ORDER BY ts, id), avg(fee), listagg(CAST(id AS STRING), '-' ORDER BY id)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '4' SECOND)) GROUP BY shop, window_start, window_end
UNION ALL
SELECT 'hop', shop, window_start, count(*), sum(amount), min(amount), max(amount), count(DISTINCT amount),
  count(*) FILTER (WHERE amount < 100), first_value(id ORDER BY ts, id), avg(fee), listagg(CAST(id AS STRING), '-' ORDER BY id)
FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND)) GROUP BY shop, window_start, window_end;
