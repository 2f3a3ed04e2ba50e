-- Times plus and minus intervals, and the starts of units.
CREATE TABLE result (id BIGINT, a TIMESTAMP(3), b TIMESTAMP(3), c TIMESTAMP(3), d DATE, e TIMESTAMP(3), f TIMESTAMP(3), g BIGINT, h BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, ts + INTERVAL '1:30' MINUTE TO SECOND, ts - INTERVAL '3' MONTH, TIMESTAMPADD(HOUR, -id, ts),
       CAST(ts AS DATE) + INTERVAL '2' DAY, FLOOR(ts TO HOUR), CEIL(ts TO MINUTE),
       TIMESTAMPDIFF(MINUTE, TIMESTAMP '2025-12-24 18:00:00', ts), TIMESTAMPDIFF(DAY, ts, TIMESTAMP '2026-03-01 00:00:00')
FROM bids WHERE MOD(id, 7) = 3;
