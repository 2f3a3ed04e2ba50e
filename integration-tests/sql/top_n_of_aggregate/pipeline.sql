-- Top-N of a windowed aggregate: the two busiest bidders of each window.
CREATE TABLE result (wstart TIMESTAMP(3), bidder BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, bidder, n FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n DESC, bidder) AS rn
  FROM (SELECT bidder, window_start, window_end, count(*) AS n
        FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '20' SECOND))
        GROUP BY bidder, window_start, window_end))
WHERE rn <= 2;
