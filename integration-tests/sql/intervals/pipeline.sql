-- Differences of times: their parts, comparisons and text.
CREATE TABLE result (id BIGINT, h BIGINT, m BIGINT, s BIGINT, late BOOLEAN, t STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, EXTRACT(HOUR FROM passed), EXTRACT(MINUTE FROM passed), EXTRACT(SECOND FROM passed), passed > INTERVAL '8:02' HOUR TO MINUTE,
       CAST(passed AS STRING)
FROM (SELECT id, ts - TIMESTAMP '2026-01-01 00:00:00' AS passed FROM bids WHERE MOD(id, 5) = 4);
