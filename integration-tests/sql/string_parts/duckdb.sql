SELECT id, split_part(url, '/', 3), split_part(url, '/', 4), regexp_extract(url, 'channel_id=([0-9]+)', 1), replace(channel, 'e', '3'),
       concat_ws('-', channel, auction), 'http' || url[6:], translate(channel, 'aeo', '43')
FROM bids WHERE id % 6 = 2;
