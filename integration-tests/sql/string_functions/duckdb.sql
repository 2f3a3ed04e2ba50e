WITH parts AS (
  SELECT *, CASE WHEN regexp_matches(url, '(&|^)channel_id=([^&]*)')
                 THEN regexp_extract(url, '(&|^)channel_id=([^&]*)', 2) END AS cid FROM bids
)
SELECT id,
       CASE WHEN lower(channel) = 'apple' THEN '0' WHEN lower(channel) = 'google' THEN '1'
            WHEN lower(channel) = 'facebook' THEN '2' WHEN lower(channel) = 'baidu' THEN '3' ELSE cid END,
       regexp_extract(url, '[?&]a=[0-9]+'), regexp_extract(url, '/(item|thing)/', 1),
       split_part(url, '/', 4), split_part(url, '/', 5), split_part(url, '/', 10), split_part(channel, 'a', 2)
FROM parts
WHERE cid IS NOT NULL OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu');
