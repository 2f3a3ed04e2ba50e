-- The time zone of the session: what instants are as local times.
SET 'table.local-time-zone' = 'Asia/Kolkata';

CREATE TABLE result (id BIGINT, local_ TIMESTAMP(3), h BIGINT, day_ STRING, back TIMESTAMP(3), converted STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, CAST(instant AS TIMESTAMP(3)), HOUR(instant), DATE_FORMAT(instant, 'yyyy-MM-dd'), FLOOR(CAST(instant AS TIMESTAMP(3)) TO DAY),
       CONVERT_TZ('2026-01-01 08:00:00', 'UTC', 'Asia/Tokyo')
FROM (SELECT id, TO_TIMESTAMP_LTZ(UNIX_TIMESTAMP(DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm:ss')) + 7200 * id, 0) AS instant
      FROM bids WHERE MOD(id, 8) = 2);
