SELECT id, strftime(ts, '%Y%m%d'), strftime(ts, '%H:%M:%S.') || lpad((extract('millisecond' FROM ts) % 1000)::VARCHAR, 3, '0'),
       date_trunc('minute', ts), ts::DATE, floor(epoch(ts))::BIGINT, strftime(make_timestamp(id * 1000000000), '%Y-%m-%d %H:%M:%S'),
       NULL, strftime(ts, '%Y-%m-%d %H:%M:%S.') || lpad((extract('millisecond' FROM ts) % 1000)::VARCHAR, 3, '0')
FROM bids WHERE id % 9 = 7;
