-- Sessions of many keys: each key has a row every ${KEYS} rows, which is every ${KEYS} microseconds.
CREATE TABLE numbers (
  n BIGINT,
  ts AS TO_TIMESTAMP_LTZ(1767225600000 + n / 1000, 3),
  WATERMARK FOR ts AS ts
) WITH (
  'connector' = 'datagen', 'number-of-rows' = '${ROWS}', 'rows-per-second' = '1000000000',
  'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '${ROWS}'
);

CREATE VIEW keyed AS SELECT MOD(n * 7919, ${KEYS}) AS k, n, ts FROM numbers;

CREATE TABLE result (k BIGINT, n BIGINT, total BIGINT, high BIGINT) WITH ('connector' = 'blackhole');

INSERT INTO result
SELECT k, count(*), sum(n), max(n)
FROM TABLE(SESSION(TABLE keyed PARTITION BY k, DESCRIPTOR(ts), INTERVAL '${GAP}' SECOND))
GROUP BY k, window_start, window_end;
