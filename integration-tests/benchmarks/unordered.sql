-- Rows in random order of event time: each batch has rows of nearly all of the ${SLICES} windows that are open.
CREATE TABLE numbers (
  n BIGINT,
  ts AS TO_TIMESTAMP_LTZ(1767225600000 + MOD(n * 7919, ${SLICES}) * 1000 + n / 4000, 3),
  WATERMARK FOR ts AS ts - INTERVAL '1' HOUR
) WITH (
  'connector' = 'datagen', 'number-of-rows' = '${ROWS}', 'rows-per-second' = '1000000000',
  'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '${ROWS}'
);

CREATE TABLE result (k BIGINT, n BIGINT, total BIGINT, high BIGINT) WITH ('connector' = 'blackhole');

CREATE VIEW keyed AS SELECT MOD(n / 13, ${KEYS}) AS k, n, ts FROM numbers;

INSERT INTO result
SELECT k, count(*), sum(n), max(n)
FROM TABLE(TUMBLE(TABLE keyed, DESCRIPTOR(ts), INTERVAL '1' SECOND))
GROUP BY k, window_start, window_end;
