-- Digests and encodings of text and numbers.
CREATE TABLE result (id BIGINT, md STRING, sha STRING, base STRING, h STRING, b STRING, back STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, MD5(url), SHA256(channel), TO_BASE64(channel), HEX(id), BIN(id), FROM_BASE64(TO_BASE64(url))
FROM bids WHERE MOD(id, 9) = 4;
