-- Zeros with and without a sign are one value, and a backslash in LIKE is a backslash, however they are compared.
CREATE TABLE result (part STRING, wstart TIMESTAMP(3), x DOUBLE, a BIGINT, b BIGINT, c BIGINT, d BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

-- x is 0, -0, 1, -1, 2 or -2.
CREATE VIEW signed AS
SELECT id, bidder, ts, channel || '\%' AS pattern, channel || '\' || channel AS text,
       CAST(MOD(id, 3) AS DOUBLE) * CASE WHEN MOD(id, 2) = 0 THEN 1e0 ELSE -1e0 END AS x
FROM bids WHERE id >= 0;

CREATE VIEW windowed AS SELECT * FROM TABLE(TUMBLE(TABLE signed, DESCRIPTOR(ts), INTERVAL '10' SECOND));

CREATE VIEW odd AS
SELECT window_start, window_end, x, COUNT(*) AS n FROM windowed WHERE MOD(id, 2) = 1
GROUP BY window_start, window_end, x;

CREATE VIEW even AS
SELECT window_start, window_end, x, COUNT(*) AS n FROM windowed WHERE MOD(id, 2) = 0
GROUP BY window_start, window_end, x;

INSERT INTO result
SELECT 'group', window_start, x, COUNT(*), COUNT(DISTINCT x), COUNT(DISTINCT bidder, x), COUNT(DISTINCT x, x)
FROM windowed GROUP BY window_start, window_end, x
UNION ALL
SELECT 'distinct', window_start, MAX(ABS(x)), COUNT(*), COUNT(DISTINCT x), CARDINALITY(ARRAY_AGG(DISTINCT x)),
       COUNT(DISTINCT NULLIF(x, 0e0))
FROM windowed GROUP BY window_start, window_end
UNION ALL
SELECT 'compare', window_start, MIN(x), COUNT(*) FILTER (WHERE x = 0e0), COUNT(*) FILTER (WHERE x IN (0e0, 3e0, 4e0, 5e0, 6e0)),
       SUM(CASE x WHEN 0e0 THEN 1 WHEN 1e0 THEN 10 ELSE 100 END), COUNT(*) FILTER (WHERE x < 0e0)
FROM windowed GROUP BY window_start, window_end
UNION ALL
SELECT 'like', window_start, CAST(NULL AS DOUBLE), COUNT(*) FILTER (WHERE text LIKE pattern),
       COUNT(*) FILTER (WHERE text NOT LIKE 'apple\apple'), COUNT(*) FILTER (WHERE text LIKE '%\%'),
       COUNT(*) FILTER (WHERE text LIKE 'a%\a%')
FROM windowed GROUP BY window_start, window_end
UNION ALL
SELECT 'join', l.window_start, ABS(l.x), l.n, r.n, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT)
FROM even AS l INNER JOIN odd AS r
ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.x = r.x
UNION ALL
SELECT 'first', window_start, ABS(x), id, CAST(rn AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT) FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, MOD(id, 3) ORDER BY x * 0e0, id) AS rn FROM windowed)
WHERE rn <= 2;
