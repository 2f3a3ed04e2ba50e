-- An updating aggregate over the results of windows.
-- key columns: 1
CREATE TABLE result (channel STRING, windows BIGINT, busiest BIGINT, n BIGINT, PRIMARY KEY (channel) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT channel, count(*), max(n), sum(n)
FROM (
  SELECT channel, count(*) AS n FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY channel, window_start, window_end
)
GROUP BY channel;
