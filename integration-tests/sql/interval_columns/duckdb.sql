WITH ages AS (SELECT id, ts, epoch_ms(ts) - epoch_ms(TIMESTAMP '2026-01-01') AS age FROM bids)
SELECT bucket(ts, 60), id % 30, count(*), min(age), max(age),
       '+0 00:00:' || lpad(((max(age) - min(age)) // 1000)::VARCHAR, 2, '0') || '.' ||
       lpad(((max(age) - min(age)) % 1000)::VARCHAR, 3, '0'),
       bucket(ts, 60) + to_milliseconds(max(age))
FROM ages GROUP BY bucket(ts, 60), id % 30;
