WITH tagged AS (SELECT id, unnest(auction.tags) AS tag, ts FROM auctions)
SELECT 'tags', id, tag, place, reserve
FROM (SELECT id, reserve, unnest(auction.tags) AS tag, unnest(range(1, len(auction.tags) + 1)) AS place FROM auctions)
WHERE tag <> 'new' OR id < 1010
UNION ALL
SELECT 'outer', id, tag, place, reserve
FROM (SELECT id, reserve, unnest(auction.tags) AS tag, unnest([1, 2]) AS place FROM auctions WHERE category = 'art'
      UNION ALL SELECT id, reserve, NULL, NULL FROM auctions WHERE category <> 'art')
WHERE id > 1040
UNION ALL
SELECT 'rows', id, category, reserve, reserve + id FROM auctions
UNION ALL
SELECT 'rows', id, 'all', 7, 7 + id FROM auctions
UNION ALL
SELECT 'map', id, 'reserve', reserve, reserve FROM auctions WHERE reserve > 100
UNION ALL
SELECT 'map', id, category, id, reserve FROM auctions
UNION ALL
SELECT 'constant', n, s, NULL, NULL FROM (SELECT unnest([1, 2, 3]) AS n), (SELECT unnest(['x', 'y']) AS s)
UNION ALL
SELECT 'on', id, category, 2, reserve FROM auctions
UNION ALL
SELECT 'window', count(*), tag, min(id), max(id) FROM tagged GROUP BY tag, bucket(ts, 20);
