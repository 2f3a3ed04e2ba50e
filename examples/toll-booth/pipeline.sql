-- The same pipeline as pipeline.yaml, in SQL.

CREATE TABLE entries (
  booth BIGINT,
  plate STRING,
  entered TIMESTAMP(3),
  toll DECIMAL(6, 2),
  WATERMARK FOR entered AS entered - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/toll-booth/data/entries',
  'format' = 'json'
);

CREATE TABLE stats (
  booth BIGINT, window_start TIMESTAMP(3), cars BIGINT, plates BIGINT, takings DECIMAL(16, 2)
) WITH (
  'connector' = 'print'
);

INSERT INTO stats
SELECT booth, window_start, count(*) AS cars, count(DISTINCT plate) AS plates, sum(toll) AS takings
FROM TABLE(TUMBLE(TABLE entries, DESCRIPTOR(entered), INTERVAL '1' MINUTE))
GROUP BY booth, window_start, window_end;
