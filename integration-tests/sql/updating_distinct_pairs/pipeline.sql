-- Distinct pairs, and a sum of distinct values.
-- key columns: 1
CREATE TABLE result (bidder BIGINT, pairs BIGINT, total BIGINT, channels BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT bidder, COUNT(DISTINCT auction, channel), SUM(DISTINCT auction), COUNT(DISTINCT channel) FROM bids GROUP BY bidder;
