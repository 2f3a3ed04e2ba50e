-- Multisets as columns of views, as keys of GROUP BY, and compared.
-- key columns: 1
CREATE VIEW bidders AS SELECT bidder, COLLECT(MOD(price, 2)) AS marks FROM bids WHERE MOD(id, 40) = 0 GROUP BY bidder;

CREATE TABLE result (marks STRING, bidders BIGINT, elements INT) WITH ('connector' = 'print');

INSERT INTO result
SELECT REPLACE(CAST(marks AS STRING), ', ', ' '), COUNT(*), MAX(CARDINALITY(marks)) FROM bidders GROUP BY marks;
