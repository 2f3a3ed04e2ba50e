-- Makes the example's data with the engine itself: 300,000 cars pass ten toll booths in a little over eight hours.
-- Everything follows from the sequence number, so each run writes the same rows.

CREATE TABLE cars (
  n BIGINT
) WITH (
  'connector' = 'datagen',
  'number-of-rows' = '300000',
  'rows-per-second' = '100000000',
  'fields.n.kind' = 'sequence',
  'fields.n.start' = '0',
  'fields.n.end' = '299999'
);

-- A car enters every tenth of a second, and reaches the file up to three seconds out of order.
CREATE VIEW passages AS
SELECT
  MOD(n * 7919 + n / 13, 10)                                              AS booth,
  CONCAT('MS-', LPAD(CAST(MOD(n * 104729, 90000) AS STRING), 5, '0'))     AS plate,
  MOD(n * 31, 3000)                                                       AS jitter_ms,
  TO_TIMESTAMP_LTZ(1767225600000 + n * 100 + MOD(n * 31, 3000), 3)        AS entered_at,
  20000 + MOD(n * 6151, 100000)                                           AS stay_ms,
  n
FROM cars;

CREATE TABLE entries (
  booth BIGINT, plate STRING, entered TIMESTAMP(3), toll DECIMAL(6, 2)
) WITH ('connector' = 'filesystem', 'path' = 'examples/toll-booth/data/entries', 'format' = 'json');

INSERT INTO entries
SELECT booth, plate, CAST(entered_at AS TIMESTAMP(3)), CAST(2 + MOD(n, 7) * 0.5 AS DECIMAL(6, 2)) FROM passages;
