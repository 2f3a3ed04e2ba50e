-- The results of two windows joined by window and key.
CREATE TABLE result (wstart TIMESTAMP(3), k BIGINT, n BIGINT, m BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT b.window_start, b.auction, b.n, a.m
FROM (SELECT window_start, window_end, auction, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '30' SECOND))
      GROUP BY window_start, window_end, auction) AS b
JOIN (SELECT window_start, window_end, id, COUNT(*) AS m FROM TABLE(TUMBLE(TABLE auctions, DESCRIPTOR(ts), INTERVAL '30' SECOND))
      GROUP BY window_start, window_end, id) AS a
ON b.window_start = a.window_start AND b.window_end = a.window_end AND b.auction = a.id;
