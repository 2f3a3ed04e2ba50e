SELECT id, hour(ts), minute(ts), second(ts), ts > TIMESTAMP '2026-01-01 08:02:00',
       '+0 ' || strftime(ts, '%H:%M:%S.') || lpad((extract('millisecond' FROM ts) % 1000)::VARCHAR, 3, '0')
FROM bids WHERE id % 5 = 4;
