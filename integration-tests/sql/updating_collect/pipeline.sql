-- Multisets of values that change: retractions, the number of elements, distinct elements.
-- key columns: 1
CREATE TABLE result (k BIGINT, marks STRING, n INT, different STRING) WITH ('connector' = 'print');

INSERT INTO result
SELECT MOD(auction, 3), REPLACE(CAST(COLLECT(mark) AS STRING), ', ', ' '), CARDINALITY(COLLECT(mark)),
       REPLACE(CAST(COLLECT(DISTINCT mark) AS STRING), ', ', ' ')
FROM (SELECT auction, MOD(MAX(price), 5) AS mark FROM bids GROUP BY auction)
GROUP BY MOD(auction, 3);
