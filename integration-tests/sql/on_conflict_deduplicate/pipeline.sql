-- Several groups with one primary key: a row is deleted when the last of the groups has left it.
-- key columns: 1
CREATE TABLE result (n BIGINT, twice BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'print');

INSERT INTO result
SELECT n, n + n FROM (SELECT auction, COUNT(*) AS n FROM bids GROUP BY auction)
ON CONFLICT DO DEDUPLICATE;
