-- The older group windows: TUMBLE and HOP inside GROUP BY.
CREATE TABLE result (kind STRING, auction BIGINT, starts TIMESTAMP(3), ends TIMESTAMP(3), n BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT 'tumble', auction, TUMBLE_START(ts, INTERVAL '30' SECOND), TUMBLE_END(ts, INTERVAL '30' SECOND), count(*)
FROM bids GROUP BY auction, TUMBLE(ts, INTERVAL '30' SECOND)
UNION ALL
SELECT 'hop', auction, HOP_START(ts, INTERVAL '10' SECOND, INTERVAL '30' SECOND),
       HOP_END(ts, INTERVAL '10' SECOND, INTERVAL '30' SECOND), count(*)
FROM bids GROUP BY auction, HOP(ts, INTERVAL '10' SECOND, INTERVAL '30' SECOND);
