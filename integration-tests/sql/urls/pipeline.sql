-- Parts of a URL.
CREATE TABLE result (id BIGINT, host STRING, path STRING, protocol STRING, query STRING, a STRING, missing STRING, encoded STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, PARSE_URL(url, 'HOST'), PARSE_URL(url, 'PATH'), PARSE_URL(url, 'PROTOCOL'), PARSE_URL(url, 'QUERY'),
       PARSE_URL(url, 'QUERY', 'channel_id'), PARSE_URL(url, 'QUERY', 'b'), URL_ENCODE(SPLIT_INDEX(url, '?', 1))
FROM bids WHERE MOD(id, 10) = 1;
