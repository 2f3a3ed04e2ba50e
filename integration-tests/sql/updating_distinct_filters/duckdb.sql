SELECT channel, count(DISTINCT bidder), count(DISTINCT bidder) FILTER (WHERE price < 20000),
  count(DISTINCT bidder) FILTER (WHERE price > 80000), max(bidder) FILTER (WHERE price > 90000),
  count(DISTINCT auction) FILTER (WHERE price > 80000), (sum(DISTINCT bidder) FILTER (WHERE price > 80000))::BIGINT
FROM bids GROUP BY channel;
