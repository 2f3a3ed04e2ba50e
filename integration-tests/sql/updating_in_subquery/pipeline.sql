-- Rows whose key is in the result of a grouped query.
-- key columns: 1
CREATE TABLE result (id BIGINT, auction BIGINT, price BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT id, auction, price FROM bids
WHERE price > 70000 AND auction IN (SELECT auction FROM bids GROUP BY auction HAVING COUNT(*) > 120);
