-- Bitmaps, percentiles and medians of aggregates, whose former values are taken back.
-- key columns: 1
CREATE TABLE result (
  n BIGINT, bidders STRING, m BIGINT, half DOUBLE, weighted DOUBLE, mid DOUBLE, in_all STRING, in_one BIGINT, in_odd BIGINT
) WITH ('connector' = 'print');

INSERT INTO result
SELECT n, REPLACE(BITMAP_TO_STRING(BITMAP_BUILD_AGG(bidder)), ',', ' '), BITMAP_BUILD_CARDINALITY_AGG(bidder),
  PERCENTILE(total, 0.5), PERCENTILE(total, 0.5, bidder), MEDIAN(CAST(total AS DOUBLE)),
  REPLACE(BITMAP_TO_STRING(BITMAP_AND_AGG(auctions)), ',', ' '), BITMAP_OR_CARDINALITY_AGG(auctions),
  BITMAP_XOR_CARDINALITY_AGG(auctions)
FROM (
  SELECT bidder, COUNT(*) / 10 AS n, SUM(price) AS total, BITMAP_BUILD_AGG(auction) AS auctions FROM bids GROUP BY bidder)
GROUP BY n;
