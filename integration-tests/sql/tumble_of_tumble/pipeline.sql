-- Windows over the results of shorter windows.
CREATE VIEW short AS
SELECT window_time AS t, auction, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, window_time, auction;

CREATE TABLE result (wstart TIMESTAMP(3), most BIGINT, total BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, MAX(n), SUM(n) FROM TABLE(TUMBLE(TABLE short, DESCRIPTOR(t), INTERVAL '30' SECOND)) GROUP BY window_start, window_end;
