-- Cars pass ten toll booths, a thousand a second, on and on. Event time advances a millisecond per car; a car reaches the
-- topic up to three seconds out of order. One task makes them all: two would drift apart by more than that.

SET 'parallelism.default' = '1';
SET 'execution.checkpointing.interval' = '5s';

CREATE TABLE cars (
  n BIGINT
) WITH (
  'connector' = 'datagen',
  'rows-per-second' = '1000',
  'fields.n.kind' = 'sequence',
  'fields.n.start' = '0',
  'fields.n.end' = '9000000000000'
);

CREATE TABLE entries (
  booth BIGINT, plate STRING, entered TIMESTAMP(3), toll DECIMAL(6, 2)
) WITH (
  'connector' = 'kafka',
  'topic' = 'toll-entries',
  'properties.bootstrap.servers' = '${KAFKA_BROKERS:-localhost:9092}',
  'format' = 'json',
  'sink.delivery-guarantee' = 'exactly-once'
);

INSERT INTO entries
SELECT
  MOD(n * 7919 + n / 13, 10),
  CONCAT('MS-', LPAD(CAST(MOD(n * 104729, 90000) AS STRING), 5, '0')),
  CAST(TO_TIMESTAMP_LTZ(1767225600000 + n + MOD(n * 31, 3000), 3) AS TIMESTAMP(3)),
  CAST(2 + MOD(n, 7) * 0.5 AS DECIMAL(6, 2))
FROM cars;
