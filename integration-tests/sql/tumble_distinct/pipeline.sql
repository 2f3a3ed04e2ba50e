-- Distinct values in windows: of columns, pairs and with FILTER.
CREATE TABLE result (wstart TIMESTAMP(3), bidders BIGINT, pairs BIGINT, dear BIGINT, total BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, COUNT(DISTINCT bidder), COUNT(DISTINCT auction, channel), COUNT(DISTINCT bidder) FILTER (WHERE price > 50000),
       SUM(DISTINCT bidder)
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '15' SECOND)) GROUP BY window_start, window_end;
