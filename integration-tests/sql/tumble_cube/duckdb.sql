SELECT bucket(ts, 60), channel, cheap, count(*), sum(price)::BIGINT FROM (SELECT *, fee < 1 AS cheap FROM bids) GROUP BY bucket(ts, 60), CUBE (channel, cheap);
