-- Groups by a constant and by an expression of one.
-- key columns: 1
CREATE TABLE result (k STRING, n BIGINT, total BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT 'all', COUNT(*), SUM(price) FROM bids GROUP BY 'all';
