SELECT id, CASE WHEN price IS NULL THEN 'none' WHEN price < 1000 THEN 'small'
                WHEN price BETWEEN 1000 AND 50000 THEN 'middle' ELSE 'large' END,
       price * 2, (fee * 2)::DECIMAL(20, 2), auction % 7, upper(channel), length(channel), split_part(url, '/', 4),
       regexp_extract(url, 'channel_id=([^&]*)', 1), lpad(bidder::VARCHAR, 5, '0'), coalesce(channel, '?'),
       replace(url, 'https://', ''), channel IS NOT NULL
FROM bids WHERE (channel LIKE '%a%' OR channel IS NULL) AND NOT (auction IN (1001, 1003));
