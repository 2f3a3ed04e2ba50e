SELECT 'good', channel, id FROM bids WHERE channel IS NOT NULL AND price % 10 <> 0 AND id < 600
UNION ALL
SELECT 'bad', CASE WHEN channel IS NULL THEN 'there is no channel' ELSE 'the price is ' || COALESCE(price::VARCHAR, 'missing') END, id FROM bids
WHERE (channel IS NULL OR price IS NULL OR price % 10 = 0) AND id < 600 AND (channel IS NULL OR price IS DISTINCT FROM 200);
