-- Stateless: CASE, casts, arithmetic, NULL handling, string functions.
CREATE TABLE result (
  id BIGINT, size STRING, doubled BIGINT, half DECIMAL(20, 2), rest BIGINT, shout STRING, letters INT, part STRING,
  cid STRING, padded STRING, either STRING, replaced STRING, known BOOLEAN
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id,
       CASE WHEN price IS NULL THEN 'none' WHEN price < 1000 THEN 'small'
            WHEN price BETWEEN 1000 AND 50000 THEN 'middle' ELSE 'large' END,
       price * 2, CAST(fee * 2 AS DECIMAL(20, 2)), MOD(auction, 7), UPPER(channel), CHAR_LENGTH(channel),
       SPLIT_INDEX(url, '/', 3), REGEXP_EXTRACT(url, 'channel_id=([^&]*)', 1), LPAD(CAST(bidder AS STRING), 5, '0'),
       COALESCE(channel, '?'), REPLACE(url, 'https://', ''), channel IS NOT NULL
FROM bids
WHERE (channel LIKE '%a%' OR channel IS NULL) AND NOT (auction IN (1001, 1003));
