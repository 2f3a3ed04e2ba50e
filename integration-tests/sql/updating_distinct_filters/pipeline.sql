-- Distinct values of one column with several filters.
-- key columns: 1
CREATE TABLE result (
  channel STRING, bidders BIGINT, cheap BIGINT, dear BIGINT, dearest BIGINT, auctions BIGINT, total BIGINT,
  PRIMARY KEY (channel) NOT ENFORCED
) WITH ('connector' = 'print');

INSERT INTO result
SELECT channel, count(DISTINCT bidder), count(DISTINCT bidder) FILTER (WHERE price < 20000),
  count(DISTINCT bidder) FILTER (WHERE price > 80000), max(bidder) FILTER (WHERE price > 90000),
  count(DISTINCT auction) FILTER (WHERE price > 80000), sum(DISTINCT bidder) FILTER (WHERE price > 80000)
FROM bids GROUP BY channel;
