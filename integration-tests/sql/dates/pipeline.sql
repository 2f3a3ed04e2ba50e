-- Date and time functions.
CREATE TABLE result (
  id BIGINT, h BIGINT, m BIGINT, s BIGINT, day_ STRING, floored TIMESTAMP(3), next_ TIMESTAMP(3), y BIGINT, passed BIGINT
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, HOUR(ts), MINUTE(ts), SECOND(ts), DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm'), FLOOR(ts TO MINUTE),
       ts + INTERVAL '1' DAY, EXTRACT(YEAR FROM ts), TIMESTAMPDIFF(SECOND, TIMESTAMP '2026-01-01 00:00:00', ts)
FROM bids WHERE MOD(id, 5) = 0;
