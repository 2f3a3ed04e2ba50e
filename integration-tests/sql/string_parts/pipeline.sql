-- Text that is split, replaced and put together again.
CREATE TABLE result (id BIGINT, host STRING, second_part STRING, pair STRING, replaced STRING, listed STRING, over_ STRING, letters STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, SPLIT_INDEX(url, '/', 2), SPLIT(url, '/')[4], STR_TO_MAP(SPLIT_INDEX(url, '?', 1), '&', '=')['channel_id'],
       REPLACE(channel, 'e', '3'), CONCAT_WS('-', channel, CAST(auction AS STRING)), OVERLAY(url PLACING 'http' FROM 1 FOR 5),
       TRANSLATE(channel, 'aeo', '43')
FROM bids WHERE MOD(id, 6) = 2;
