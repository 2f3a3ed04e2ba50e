SELECT id, quarter(t), month(t), weekofyear(t), dayofyear(t), dayofmonth(t), dayofweek(t) + 1, extract('millisecond' FROM t) % 1000,
       floor(epoch(t))::BIGINT, year(t) // 10
FROM (SELECT id, ts + to_days(id::INT) AS t FROM bids) WHERE id % 6 = 5;
