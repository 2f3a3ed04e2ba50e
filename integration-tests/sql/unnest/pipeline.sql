-- UNNEST of arrays, arrays of rows and maps, with positions, outer, of constants, and below a window.
CREATE TABLE result (
  kind STRING, id BIGINT, a STRING, b BIGINT, c BIGINT
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

CREATE VIEW tagged AS
SELECT id, tag, ts FROM auctions CROSS JOIN UNNEST(auction.tags) AS t(tag);

INSERT INTO result
SELECT 'tags', id, tag, CAST(place AS BIGINT), reserve
FROM auctions CROSS JOIN UNNEST(auction.tags) WITH ORDINALITY AS t(tag, place) WHERE tag <> 'new' OR id < 1010
UNION ALL
SELECT 'outer', id, tag, CAST(place AS BIGINT), reserve FROM auctions
LEFT JOIN UNNEST(CASE category WHEN 'art' THEN auction.tags WHEN 'cars' THEN ARRAY_REMOVE(ARRAY['x'], 'x') END)
WITH ORDINALITY AS t(tag, place) ON TRUE WHERE id > 1040
UNION ALL
SELECT 'rows', o.id, r.name, r.n, r.n + o.id FROM auctions AS o, UNNEST(ARRAY[(category, reserve), ('all', 7)]) AS r(name, n)
UNION ALL
SELECT 'map', id, k, v, reserve FROM auctions CROSS JOIN UNNEST(MAP['reserve', reserve, category, id]) AS m(k, v) WHERE v > 100
UNION ALL
SELECT 'constant', n, s, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT)
FROM UNNEST(ARRAY[1, 2, 3]) AS n CROSS JOIN UNNEST(ARRAY['x', 'y']) AS s
UNION ALL
SELECT 'on', a.id, t.tag, CAST(place AS BIGINT), reserve
FROM auctions AS a JOIN UNNEST(a.auction.tags) WITH ORDINALITY AS t(tag, place) ON t.tag = a.category
UNION ALL
SELECT 'window', COUNT(*), tag, MIN(id), MAX(id)
FROM TABLE(TUMBLE(TABLE tagged, DESCRIPTOR(ts), INTERVAL '20' SECOND)) GROUP BY tag, window_start, window_end;
