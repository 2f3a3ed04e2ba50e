SELECT id, t, hour(t), strftime(t, '%Y-%m-%d'), date_trunc('day', t), '2026-01-01 17:00:00'
FROM (SELECT id, date_trunc('second', ts) + to_seconds(7200 * id) AS t FROM bids WHERE id % 8 = 2);
