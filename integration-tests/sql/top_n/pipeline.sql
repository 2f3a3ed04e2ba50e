-- The three highest bids per window and channel, with their rank.
CREATE TABLE result (channel STRING, wstart TIMESTAMP(3), id BIGINT, price BIGINT, rn BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT channel, window_start, id, price, rn FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, channel ORDER BY price DESC NULLS LAST, id) AS rn
  FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)))
WHERE rn <= 3;
