SELECT id, hour(ts), minute(ts), second(ts), strftime(ts, '%Y-%m-%d %H:%M'), date_trunc('minute', ts), ts + to_days(1),
       year(ts), date_sub('second', TIMESTAMP '2026-01-01 00:00:00', ts)
FROM bids WHERE id % 5 = 0;
