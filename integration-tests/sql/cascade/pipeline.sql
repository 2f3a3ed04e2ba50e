-- Windows over windows: counts per 5 s rolled up to 20 s by window_time.
CREATE TABLE result (wstart TIMESTAMP(3), auctions BIGINT, bids BIGINT, busiest BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

CREATE VIEW small AS
SELECT auction, window_time AS rowtime, count(*) AS n
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND))
GROUP BY auction, window_start, window_end, window_time;

INSERT INTO result
SELECT window_start, count(*), sum(n), max(n)
FROM TABLE(TUMBLE(TABLE small, DESCRIPTOR(rowtime), INTERVAL '20' SECOND))
GROUP BY window_start, window_end;
