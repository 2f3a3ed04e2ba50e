-- Groups over the union of two tables.
-- key columns: 1
CREATE TABLE result (k BIGINT, n BIGINT, bids_ BIGINT, total BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT k, COUNT(*), COUNT(price), SUM(price) - SUM(reserve)
FROM (SELECT auction AS k, price, CAST(NULL AS BIGINT) AS reserve FROM bids UNION ALL
      SELECT auction.id, CAST(NULL AS BIGINT), reserve FROM auctions)
GROUP BY k;
