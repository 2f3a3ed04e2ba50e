-- Aggregates that depend on an order, and variances, over rows that are updated.
-- key columns: 1
CREATE TABLE result (
  n BIGINT, least BIGINT, greatest BIGINT, bidders STRING, channels STRING, lists BIGINT, deviation DECIMAL(20, 2),
  any_large BOOLEAN, PRIMARY KEY (n) NOT ENFORCED
) WITH ('connector' = 'print');

INSERT INTO result
SELECT n, first_value(bidder ORDER BY total NULLS LAST, bidder), last_value(bidder ORDER BY total NULLS LAST, bidder),
  listagg(CAST(bidder AS STRING), '-' ORDER BY total DESC NULLS LAST, bidder), listagg(DISTINCT channel, '-' ORDER BY channel),
  cardinality(array_agg(bidder)), CAST(stddev_pop(total) AS DECIMAL(20, 2)), bool_or(total > 200000)
FROM (SELECT bidder, count(*) AS n, sum(price) AS total, min(channel) AS channel FROM bids GROUP BY bidder)
GROUP BY n;
