-- A left join of append-only rows with an aggregate, whose rows are updated.
-- key columns: 2
CREATE TABLE result (id BIGINT, time STRING, category STRING, n BIGINT, high BIGINT)
WITH ('connector' = 'print');

INSERT INTO result
SELECT a.id, DATE_FORMAT(a.ts, 'HH:mm:ss.SSS'), a.category, b.n, b.high
FROM auctions a LEFT JOIN (SELECT auction, count(*) AS n, max(price) AS high FROM bids GROUP BY auction) b
ON a.id = b.auction AND b.n > 20;
