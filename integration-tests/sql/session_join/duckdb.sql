WITH dear AS (SELECT * FROM bids WHERE price > 60000),
named AS (SELECT id, channel, ts FROM bids WHERE price > 80000),
numbered AS (SELECT *, row_number() OVER () AS rowid_ FROM auctions),
kinds AS (SELECT rowid_, id, CASE category WHEN 'art' THEN 'apple' WHEN 'cars' THEN 'baidu' END AS channel, reserve, ts
  FROM numbered WHERE id > 1030),
s4_rows AS (
  SELECT 0 AS side, dear.auction AS k, ts, dear.id AS row FROM dear
  UNION ALL SELECT 1, numbered.id, ts, rowid_ FROM numbered),
s4_fresh AS (
  SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY k, CASE WHEN k IS NULL THEN side END ORDER BY ts) <= seconds(4)
    THEN 0 ELSE 1 END AS fresh FROM s4_rows),
s4_numbered AS (
  SELECT *, sum(fresh) OVER (PARTITION BY k, CASE WHEN k IS NULL THEN side END ORDER BY ts ROWS UNBOUNDED PRECEDING) AS session
  FROM s4_fresh),
s4 AS (
  SELECT *, min(ts) OVER w AS starts, max(ts) OVER w + seconds(4) AS ends FROM s4_numbered
  WINDOW w AS (PARTITION BY k, CASE WHEN k IS NULL THEN side END, session)),
s1_rows AS (
  SELECT 0 AS side, dear.auction AS k, ts, dear.id AS row FROM dear
  UNION ALL SELECT 1, numbered.id, ts, rowid_ FROM numbered),
s1_fresh AS (
  SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY k, CASE WHEN k IS NULL THEN side END ORDER BY ts) <= seconds(1)
    THEN 0 ELSE 1 END AS fresh FROM s1_rows),
s1_numbered AS (
  SELECT *, sum(fresh) OVER (PARTITION BY k, CASE WHEN k IS NULL THEN side END ORDER BY ts ROWS UNBOUNDED PRECEDING) AS session
  FROM s1_fresh),
s1 AS (
  SELECT *, min(ts) OVER w AS starts, max(ts) OVER w + seconds(1) AS ends FROM s1_numbered
  WINDOW w AS (PARTITION BY k, CASE WHEN k IS NULL THEN side END, session)),
sh_rows AS (
  SELECT 0 AS side, named.channel AS k, ts, named.id AS row FROM named
  UNION ALL SELECT 1, kinds.channel, ts, rowid_ FROM kinds),
sh_fresh AS (
  SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY k, CASE WHEN k IS NULL THEN side END ORDER BY ts) <= seconds(0.5)
    THEN 0 ELSE 1 END AS fresh FROM sh_rows),
sh_numbered AS (
  SELECT *, sum(fresh) OVER (PARTITION BY k, CASE WHEN k IS NULL THEN side END ORDER BY ts ROWS UNBOUNDED PRECEDING) AS session
  FROM sh_fresh),
sh AS (
  SELECT *, min(ts) OVER w AS starts, max(ts) OVER w + seconds(0.5) AS ends FROM sh_numbered
  WINDOW w AS (PARTITION BY k, CASE WHEN k IS NULL THEN side END, session))
SELECT 'inner', b.starts, b.ends, d.id, d.auction, n.category, n.reserve
FROM s4 AS b JOIN s4 AS a ON b.side = 0 AND a.side = 1 AND b.k = a.k AND b.session = a.session
JOIN dear AS d ON d.id = b.row JOIN numbered AS n ON n.rowid_ = a.row WHERE d.price // 100 > n.reserve
UNION ALL
SELECT 'left', b.starts, a.ends, d.id, d.auction, n.category, n.reserve
FROM (SELECT * FROM s1 WHERE side = 0) AS b LEFT JOIN (SELECT * FROM s1 WHERE side = 1) AS a ON b.k = a.k AND b.session = a.session
JOIN dear AS d ON d.id = b.row LEFT JOIN numbered AS n ON n.rowid_ = a.row
UNION ALL
SELECT 'full', b.starts, a.ends, b.row, k.id, coalesce(b.k, a.k), k.reserve
FROM (SELECT * FROM sh WHERE side = 0) AS b FULL JOIN (SELECT * FROM sh WHERE side = 1) AS a ON b.k = a.k AND b.session = a.session
LEFT JOIN kinds AS k ON k.rowid_ = a.row
UNION ALL
SELECT 'right', min(b.starts), max(a.ends), count(b.row), count(*), a.k, max(k.reserve)
FROM (SELECT * FROM sh WHERE side = 0) AS b RIGHT JOIN (SELECT * FROM sh WHERE side = 1) AS a ON b.k = a.k AND b.session = a.session
JOIN kinds AS k ON k.rowid_ = a.row GROUP BY a.k, a.starts, a.ends;
