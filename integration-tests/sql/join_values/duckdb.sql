SELECT b.id, v.name, v.rate FROM bids AS b JOIN (VALUES ('apple', 'Apple Inc.', 3), ('baidu', 'Baidu', 5)) AS v(channel, name, rate)
ON b.channel = v.channel WHERE b.id % 2 = 0;
