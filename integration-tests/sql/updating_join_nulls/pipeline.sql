-- NULL keys: equal to nothing in a full join, not distinct in the other one.
-- key columns: 5
CREATE TABLE result (a STRING, n BIGINT, b STRING, m BIGINT, query STRING)
WITH ('connector' = 'print');

INSERT INTO result
SELECT l.channel, l.n, r.channel, r.m, 'equal'
FROM (SELECT channel, count(*) AS n FROM bids WHERE price > 50000 GROUP BY channel) l
FULL JOIN (SELECT channel, count(*) AS m FROM bids WHERE price < 100 OR channel IS NULL GROUP BY channel) r ON l.channel = r.channel
UNION ALL
SELECT l.channel, l.n, r.channel, r.m, 'not distinct'
FROM (SELECT channel, count(*) AS n FROM bids WHERE price > 50000 GROUP BY channel) l
FULL JOIN (SELECT channel, count(*) AS m FROM bids WHERE price < 100 OR channel IS NULL GROUP BY channel) r
ON l.channel IS NOT DISTINCT FROM r.channel AND r.m > 1;
