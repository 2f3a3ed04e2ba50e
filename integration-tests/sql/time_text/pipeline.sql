-- Times as text and text as times.
CREATE TABLE result (id BIGINT, a STRING, b STRING, c TIMESTAMP(3), d DATE, e BIGINT, f STRING, g TIMESTAMP(3), h STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, DATE_FORMAT(ts, 'yyyyMMdd'), DATE_FORMAT(ts, 'HH:mm:ss.SSS'), TO_TIMESTAMP(DATE_FORMAT(ts, 'dd.MM.yyyy HH:mm'), 'dd.MM.yyyy HH:mm'),
       TO_DATE(DATE_FORMAT(ts, 'yyyy-MM-dd')), UNIX_TIMESTAMP(DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm:ss')), FROM_UNIXTIME(id * 1000),
       TO_TIMESTAMP(channel), CAST(ts AS STRING)
FROM bids WHERE MOD(id, 9) = 7;
