-- Intervals in state: keys of a join, of DISTINCT and of GROUP BY, extremes, distinct counts.
-- key columns: 1
CREATE VIEW marks AS
SELECT id, INTERVAL '1' SECOND * EXTRACT(SECOND FROM ts) AS s, INTERVAL '1' MONTH * MOD(price, 50) AS m FROM bids;

CREATE TABLE result (s STRING, n BIGINT, least STRING, most STRING, months BIGINT)
WITH ('connector' = 'print');

INSERT INTO result
SELECT CAST(a.s AS STRING), COUNT(*), CAST(MIN(a.m) AS STRING), CAST(MAX(a.m) AS STRING), COUNT(DISTINCT a.m)
FROM marks AS a JOIN (SELECT DISTINCT s FROM marks WHERE MOD(id, 3) = 0) AS b ON a.s = b.s
GROUP BY a.s;
