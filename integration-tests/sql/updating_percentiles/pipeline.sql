-- Percentiles of groups.
-- key columns: 1
CREATE TABLE result (fee STRING, half DOUBLE, n BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT CAST(fee AS STRING), PERCENTILE(bidder, ARRAY[0.5, 1])[1], COUNT(*) FROM bids GROUP BY CAST(fee AS STRING);
