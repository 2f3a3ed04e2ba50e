-- GROUPING SETS within a window.
CREATE TABLE result (wstart TIMESTAMP(3), channel STRING, auction BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, channel, auction, count(*)
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '60' SECOND))
GROUP BY window_start, window_end, GROUPING SETS ((channel), (auction), ());
