SELECT grouping(channel, fee), channel, fee, count(*), sum(price)::BIGINT
FROM (SELECT channel, fee::VARCHAR AS fee, price FROM bids) GROUP BY ROLLUP (channel, fee);
