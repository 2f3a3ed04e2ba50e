-- Decimals near 38 digits: what has more is NULL, in arithmetic and in sums, however the sums are divided.
CREATE TABLE result (
  wstart TIMESTAMP(3), auction BIGINT, fees DECIMAL(38, 2), above BIGINT, below BIGINT, products BIGINT, remainders DECIMAL(38, 0),
  total_is_null BIGINT
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

CREATE VIEW large AS
SELECT id, auction, fee, ts, CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) AS most FROM bids WHERE id > 0;

INSERT INTO result
SELECT window_start, auction, SUM(fee + 1), COUNT(most + id), COUNT(most - id), COUNT(most * fee), SUM(MOD(most, 7)),
       CASE WHEN SUM(most) IS NULL THEN 1 ELSE 0 END
FROM TABLE(TUMBLE(TABLE large, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, auction;
