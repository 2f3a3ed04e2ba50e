-- Makes the example's data: 20,000 clicks of 50 users. Everything follows from the sequence number, so each run writes the
-- same rows. Each user visits the site several times, with pauses of more than half an hour.

SET 'pipeline.name' = 'click-generator';

CREATE TABLE numbers (
  n BIGINT
) WITH (
  'connector' = 'datagen',
  'rows-per-second' = '100000000',
  'fields.n.kind' = 'sequence',
  'fields.n.start' = '0',
  'fields.n.end' = '19999'
);

CREATE TABLE clicks (
  user_id STRING, page STRING, clicked TIMESTAMP(3)
) WITH ('connector' = 'filesystem', 'path' = 'examples/click-sessions/data/clicks', 'format' = 'json');

-- A click every second over all users. After 50 clicks of everybody the site is quiet for 40 minutes.
INSERT INTO clicks
SELECT
  CONCAT('user-', LPAD(CAST(MOD(n * 7, 50) AS STRING), 2, '0')),
  CASE MOD(n * 31 + n / 50, 4) WHEN 0 THEN '/' WHEN 1 THEN '/search' WHEN 2 THEN '/product' ELSE '/cart' END,
  CAST(TO_TIMESTAMP_LTZ(1767225600000 + n * 1000 + n / 2500 * 2400000, 3) AS TIMESTAMP(3))
FROM numbers;
