SELECT id, regexp_matches(url, 'item/[0-9]{3}[?]'), regexp_extract(url, 'item/([0-9]+)', 1), regexp_replace(url, '[0-9]+', '#', 'g'),
       len(regexp_extract_all(url, '[0-9]')), nullif(regexp_extract(channel, '[aeiou]+'), ''), channel IN ('apple', 'google')
FROM bids WHERE id % 7 < 2;
