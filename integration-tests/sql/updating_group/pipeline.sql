-- Every common aggregate per key, without a window; NULL keys and NULL arguments included.
-- key columns: 1
CREATE TABLE result (
  channel STRING, n BIGINT, priced BIGINT, total BIGINT, low BIGINT, high BIGINT, fees DECIMAL(18, 2), first_url STRING,
  dear BIGINT, auctions BIGINT, PRIMARY KEY (channel) NOT ENFORCED
) WITH ('connector' = 'print');

INSERT INTO result
SELECT channel, count(*), count(price), sum(price), min(price), max(price), sum(fee), min(url),
       count(*) FILTER (WHERE price > 50000), count(DISTINCT auction)
FROM bids GROUP BY channel;
