-- Parts of texts, and a CASE of texts that decides by another: Nexmark's queries 21 and 22, over NULLs and odd texts too.
CREATE TABLE result (
  id BIGINT, cid STRING, whole STRING, word STRING, p3 STRING, p4 STRING, p9 STRING, letter STRING
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id,
       CASE WHEN LOWER(channel) = 'apple' THEN '0' WHEN LOWER(channel) = 'google' THEN '1'
            WHEN LOWER(channel) = 'facebook' THEN '2' WHEN LOWER(channel) = 'baidu' THEN '3'
            ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) END,
       REGEXP_EXTRACT(url, '[?&]a=[0-9]+'), REGEXP_EXTRACT(url, '/(item|thing)/', 1),
       SPLIT_INDEX(url, '/', 3), SPLIT_INDEX(url, '/', 4), SPLIT_INDEX(url, '/', 9), SPLIT_INDEX(channel, 'a', 1)
FROM bids
WHERE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) IS NOT NULL
   OR LOWER(channel) IN ('apple', 'google', 'facebook', 'baidu');
