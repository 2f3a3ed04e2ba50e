-- Sets of keys, told apart by GROUPING.
-- key columns: 4
CREATE TABLE result (all_channels BIGINT, all_auctions BIGINT, channel STRING, auction BIGINT, n BIGINT, total BIGINT)
WITH ('connector' = 'print');

INSERT INTO result
SELECT GROUPING(channel), GROUPING(auction), channel, auction, count(*), sum(price) FROM bids GROUP BY CUBE (channel, auction);
