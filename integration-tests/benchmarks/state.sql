-- One window over all keys: every key is seen three times, far apart, and the window fires at the end of input.
CREATE TABLE numbers (
  n BIGINT,
  ts AS TO_TIMESTAMP_LTZ(1767225600000 + n / 100000, 3),
  WATERMARK FOR ts AS ts
) WITH (
  'connector' = 'datagen', 'number-of-rows' = '${ROWS}', 'rows-per-second' = '1000000000',
  'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '${ROWS}'
);

CREATE TABLE result (k BIGINT, n BIGINT, total BIGINT, high BIGINT) WITH ('connector' = 'blackhole');

INSERT INTO result
SELECT MOD(n * 7919, ${KEYS}), count(*), sum(n), max(n)
FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '1' DAY))
GROUP BY MOD(n * 7919, ${KEYS}), window_start, window_end;
