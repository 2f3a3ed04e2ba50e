SELECT id, 'shop.example', regexp_extract(url, 'example([^?]*)', 1), 'https', split_part(url, '?', 2),
       regexp_extract(url, 'channel_id=([0-9]+)', 1), NULL, replace(replace(split_part(url, '?', 2), '=', '%3D'), '&', '%26')
FROM bids WHERE id % 10 = 1;
