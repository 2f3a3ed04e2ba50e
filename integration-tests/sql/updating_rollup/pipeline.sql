-- ROLLUP without a window, with GROUPING.
-- key columns: 3
CREATE TABLE result (level BIGINT, channel STRING, fee STRING, n BIGINT, total BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT GROUPING(channel, fee), channel, fee, COUNT(*), SUM(price)
FROM (SELECT channel, CAST(fee AS STRING) AS fee, price FROM bids) GROUP BY ROLLUP (channel, fee);
