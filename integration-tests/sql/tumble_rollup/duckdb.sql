SELECT bucket(ts, 60), channel, fee, grouping(channel, fee), count(*) FROM bids WHERE bidder > 20 GROUP BY bucket(ts, 60), ROLLUP (channel, fee);
