-- Intervals as columns of views and tables: their numbers in records, MIN and MAX, arithmetic, keys of a window.
CREATE VIEW ages AS
SELECT id, ts, ts - TIMESTAMP '2026-01-01 00:00:00' AS age, INTERVAL '1' MONTH * MOD(id, 30) AS months FROM bids;

CREATE TABLE result (
  window_start TIMESTAMP(3), months INTERVAL YEAR TO MONTH, n BIGINT, first_age INTERVAL DAY TO SECOND(3),
  last_age INTERVAL DAY TO SECOND(3), span STRING, later TIMESTAMP(3)
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, months, COUNT(*), MIN(age), MAX(age), CAST(MAX(age) - MIN(age) AS STRING), window_start + MAX(age)
FROM TABLE(TUMBLE(TABLE ages, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, months;
