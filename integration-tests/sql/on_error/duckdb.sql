SELECT 'dead letters', id, TRY_CAST(replace(channel, 'channel-', '') AS BIGINT) FROM bids
WHERE channel IS NULL OR channel LIKE 'channel-%'
UNION ALL
SELECT 'null', id, TRY_CAST(replace(channel, 'channel-', '') AS BIGINT) FROM bids WHERE id < 200;
