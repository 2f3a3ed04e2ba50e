-- Groups by several casts of one column, and by a CASE.
-- key columns: 3
CREATE TABLE result (a STRING, b STRING, size STRING, n BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT CAST(fee AS STRING), CAST(CAST(fee AS INT) AS STRING), CASE WHEN price > 45000 THEN 'large' ELSE 'small' END, COUNT(*)
FROM bids GROUP BY CAST(fee AS STRING), CAST(CAST(fee AS INT) AS STRING), CASE WHEN price > 45000 THEN 'large' ELSE 'small' END;
