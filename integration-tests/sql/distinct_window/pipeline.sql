-- SELECT DISTINCT within windows.
CREATE TABLE result (wstart TIMESTAMP(3), channel STRING) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, channel FROM (
  SELECT DISTINCT window_start, window_end, channel
  FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)));
