SELECT GROUPING(channel)::BIGINT, GROUPING(auction)::BIGINT, channel, auction, count(*), sum(price)::BIGINT
FROM bids GROUP BY CUBE (channel, auction);
