-- Casts between text, numbers and times.
CREATE TABLE result (id BIGINT, t STRING, i INT, d DATE, tm TIME(0), b BOOLEAN, n BIGINT, f STRING, bad INT, ts3 TIMESTAMP(0))
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, CAST(price AS STRING), CAST(fee AS INT), CAST(ts AS DATE), CAST(ts AS TIME), CAST(price AS BOOLEAN),
       CAST(SPLIT_INDEX(url, '/', 5) || '0' AS BIGINT), CAST(fee AS STRING), TRY_CAST(channel AS INT), CAST(ts AS TIMESTAMP(0))
FROM (SELECT id, price, fee, ts, channel, REGEXP_REPLACE(url, '[?].*', '') AS url FROM bids WHERE MOD(id, 8) = 5);
