-- A join of a table with itself, with duplicates, aggregated.
-- key columns: 1
CREATE TABLE result (channel STRING, n BIGINT, total BIGINT, PRIMARY KEY (channel) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT a.channel, count(*), sum(b.price)
FROM bids a JOIN bids b ON a.auction = b.auction AND a.bidder = b.bidder AND a.id < b.id
GROUP BY a.channel;
