SELECT id, position('item' IN url), instr(channel, 'e'), instr(channel, 'o'), substring(url, 9, 4), substring(channel, 3),
       left(channel, 3), right(channel, 2), starts_with(channel, 'ch'), ends_with(channel, 'e')
FROM bids WHERE id % 5 < 2;
