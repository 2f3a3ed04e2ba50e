-- Intervals in state: keys of a join, of DISTINCT and of GROUP BY, extremes, distinct counts.
-- key columns: 1
CREATE VIEW marks AS
SELECT id, INTERVAL '1' SECOND * EXTRACT(SECOND FROM ts) AS s, INTERVAL '1' MONTH * MOD(price, 50) AS m FROM bids;

CREATE TABLE result (s INTERVAL SECOND, n BIGINT, least INTERVAL MONTH, most INTERVAL MONTH, months BIGINT)
WITH ('connector' = 'print');

INSERT INTO result
SELECT a.s, COUNT(*), MIN(a.m), MAX(a.m), COUNT(DISTINCT a.m)
FROM marks AS a JOIN (SELECT DISTINCT s FROM marks WHERE MOD(id, 3) = 0) AS b ON a.s = b.s
GROUP BY a.s;
