SELECT id, ts + INTERVAL 90 SECOND, ts - INTERVAL 3 MONTH, ts - to_hours(id), (ts::DATE + 2)::DATE, date_trunc('hour', ts),
       date_trunc('minute', ts) + INTERVAL 1 MINUTE, date_sub('minute', TIMESTAMP '2025-12-24 18:00:00', ts),
       date_sub('day', ts, TIMESTAMP '2026-03-01 00:00:00')
FROM bids WHERE id % 7 = 3;
