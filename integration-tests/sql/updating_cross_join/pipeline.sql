-- A join without an equality, of aggregates.
-- key columns: 2
CREATE TABLE result (channel STRING, other STRING, n BIGINT, m BIGINT, PRIMARY KEY (channel, other) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT l.channel, r.channel, l.n, r.n
FROM (SELECT channel, count(*) AS n FROM bids GROUP BY channel) l
JOIN (SELECT channel, count(*) AS n FROM bids GROUP BY channel) r ON l.n > r.n;
