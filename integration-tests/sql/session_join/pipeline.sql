-- Joins of session windows, whose sessions have the rows of both sides: inner with a further condition, outer, with NULL keys.
CREATE TABLE result (query STRING, starts TIMESTAMP(3), ends TIMESTAMP(3), bid BIGINT, auction BIGINT, k STRING, reserve BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

CREATE VIEW dear AS SELECT * FROM bids WHERE price > 60000;
CREATE VIEW named AS SELECT id, channel, ts FROM bids WHERE price > 80000;
CREATE VIEW kinds AS SELECT id, CASE category WHEN 'art' THEN 'apple' WHEN 'cars' THEN 'baidu' END AS channel, reserve, ts FROM auctions WHERE id > 1030;

INSERT INTO result
SELECT 'inner', b.window_start, b.window_end, b.id, b.auction, a.category, a.reserve
FROM (SELECT * FROM TABLE(SESSION(TABLE dear PARTITION BY auction, DESCRIPTOR(ts), INTERVAL '4' SECOND))) AS b
JOIN (SELECT * FROM TABLE(SESSION(TABLE auctions PARTITION BY id, DESCRIPTOR(ts), INTERVAL '4' SECOND))) AS a
ON b.window_start = a.window_start AND b.window_end = a.window_end AND b.auction = a.id AND b.price / 100 > a.reserve
UNION ALL
SELECT 'left', b.window_start, a.window_end, b.id, b.auction, a.category, a.reserve
FROM TABLE(SESSION(TABLE dear PARTITION BY auction, DESCRIPTOR(ts), INTERVAL '1' SECOND)) AS b
LEFT JOIN TABLE(SESSION(TABLE auctions PARTITION BY id, DESCRIPTOR(ts), INTERVAL '1' SECOND)) AS a
ON b.auction = a.id AND b.window_start = a.window_start AND b.window_end = a.window_end
UNION ALL
SELECT 'full', n.window_start, k.window_end, n.id, k.id, COALESCE(n.channel, k.channel), k.reserve
FROM TABLE(SESSION(TABLE named PARTITION BY channel, DESCRIPTOR(ts), INTERVAL '0.5' SECOND)) AS n
FULL JOIN TABLE(SESSION(TABLE kinds PARTITION BY channel, DESCRIPTOR(ts), INTERVAL '0.5' SECOND)) AS k
ON n.channel = k.channel AND n.window_start = k.window_start AND n.window_end = k.window_end
UNION ALL
SELECT 'right', MIN(n.window_start), MAX(k.window_end), COUNT(n.id), COUNT(*), k.channel, MAX(k.reserve)
FROM TABLE(SESSION(TABLE named PARTITION BY channel, DESCRIPTOR(ts), INTERVAL '0.5' SECOND)) AS n
RIGHT JOIN TABLE(SESSION(TABLE kinds PARTITION BY channel, DESCRIPTOR(ts), INTERVAL '0.5' SECOND)) AS k
ON n.channel = k.channel AND n.window_start = k.window_start AND n.window_end = k.window_end
GROUP BY k.channel, k.window_start, k.window_end;
