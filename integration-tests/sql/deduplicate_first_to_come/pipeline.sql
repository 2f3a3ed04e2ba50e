-- The first bids of each bidder to come: they are final at once, so the result is append-only, and windows follow.
CREATE TABLE result (wstart TIMESTAMP(3), channel STRING, n BIGINT, low BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, channel, count(*), min(id)
FROM TABLE(TUMBLE(
  DATA => (SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder ORDER BY PROCTIME()) AS rn FROM bids) WHERE rn <= 4),
  TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '10' SECOND))
GROUP BY window_start, window_end, channel;
