CREATE MACRO sessions_of(rows_, keyed, gap) AS TABLE
WITH fresh AS (
  SELECT *, CASE WHEN ts - lag(ts) OVER w <= seconds(gap) THEN 0 ELSE 1 END AS fresh FROM query_table(rows_)
  WINDOW w AS (PARTITION BY CASE WHEN keyed THEN auction END ORDER BY ts)),
numbered AS (
  SELECT *, sum(fresh) OVER (PARTITION BY CASE WHEN keyed THEN auction END ORDER BY ts ROWS UNBOUNDED PRECEDING) AS session
  FROM fresh)
SELECT *, min(ts) OVER w AS starts, max(ts) OVER w + seconds(gap) AS ends FROM numbered
WINDOW w AS (PARTITION BY CASE WHEN keyed THEN auction END, session);
CREATE VIEW recent AS SELECT * FROM bids WHERE id > 1900;
CREATE TABLE all_ AS FROM sessions_of('bids', true, 6);
SELECT 'rows', id, auction, channel || ' ' || strftime(ends, '%M:%S'), starts, ends, price FROM sessions_of('recent', true, 6)
UNION ALL
SELECT 'dear', id, auction, upper(channel), starts, ends - seconds(0.001), price FROM all_ WHERE price > 80000 AND auction > 1002
UNION ALL
SELECT 'keyless', id, auction, channel, starts, ends, price FROM sessions_of('recent', false, 0.1) WHERE starts < ts
UNION ALL
SELECT 'channels', min(id), max(auction), channel, starts, ends, count(*) FROM all_ GROUP BY channel, starts, ends
UNION ALL
SELECT 'first', id, auction, channel, starts, ends, rn FROM (
  SELECT *, row_number() OVER (PARTITION BY starts, ends, auction ORDER BY price DESC, id) AS rn FROM all_) WHERE rn <= 2
UNION ALL
SELECT 'minutes', min(id), auction, NULL, bucket(ends - seconds(0.001), 60) AS s, bucket(ends - seconds(0.001), 60) + seconds(60), sum(price)
FROM all_ GROUP BY auction, s;
