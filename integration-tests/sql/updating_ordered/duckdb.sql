SELECT n, first(bidder ORDER BY total NULLS LAST, bidder), last(bidder ORDER BY total NULLS LAST, bidder),
  string_agg(bidder::VARCHAR, '-' ORDER BY total DESC NULLS LAST, bidder), string_agg(DISTINCT channel, '-' ORDER BY channel),
  len(array_agg(bidder)), stddev_pop(total)::DECIMAL(20, 2), bool_or(total > 200000)
FROM (SELECT bidder, count(*) AS n, sum(price)::BIGINT AS total, min(channel) AS channel FROM bids GROUP BY bidder)
GROUP BY n;
