-- Bitmaps and percentiles of windows, and of the bitmaps of windows.
CREATE TABLE result (kind STRING, k STRING, wstart TIMESTAMP(3), b STRING, n BIGINT, m BIGINT, p DECIMAL(20, 3))
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

CREATE VIEW fees AS
SELECT channel, fee, window_start, window_end, BITMAP_BUILD_AGG(bidder) AS bidders
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY channel, fee, window_start, window_end;

INSERT INTO result
SELECT 'windows', CAST(auction AS STRING), window_start, BITMAP_TO_STRING(BITMAP_BUILD_AGG(bidder)),
  BITMAP_BUILD_CARDINALITY_AGG(id) FILTER (WHERE price > 50000), BITMAP_BUILD_CARDINALITY_AGG(bidder),
  CAST(PERCENTILE(price, ARRAY[0.1, 0.3], id - 4 * (id / 4) - 1)[2] AS DECIMAL(20, 3))
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY auction, window_start, window_end
UNION ALL
SELECT 'fees', channel, window_start, BITMAP_TO_STRING(BITMAP_AND_AGG(bidders)),
  BITMAP_OR_CARDINALITY_AGG(bidders), BITMAP_XOR_CARDINALITY_AGG(bidders), CAST(NULL AS DECIMAL(20, 3))
FROM fees GROUP BY channel, window_start, window_end;
