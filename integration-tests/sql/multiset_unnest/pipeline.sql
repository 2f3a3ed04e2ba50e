-- The elements of multisets, each as often as it was collected; a view of a window.
CREATE VIEW sets AS
SELECT window_start, auction, COLLECT(channel) AS channels
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, auction;

CREATE TABLE result (window_start TIMESTAMP(3), auction BIGINT, channel STRING, n INT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, auction, channel, CARDINALITY(channels) FROM sets LEFT JOIN UNNEST(channels) AS c(channel) ON TRUE;
