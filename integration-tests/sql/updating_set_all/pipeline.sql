-- INTERSECT ALL and EXCEPT ALL: the numbers of equal rows in both inputs determine how often a row is in the result.
-- key columns: 3
CREATE TABLE result (query STRING, channel STRING, band BIGINT, n BIGINT) WITH ('connector' = 'print');

CREATE VIEW dear AS SELECT channel, bidder / 4 AS band FROM bids WHERE price > 40000;
CREATE VIEW cheap AS SELECT channel, bidder / 4 AS band FROM bids WHERE price < 30000;

INSERT INTO result
SELECT 'intersect', channel, band, COUNT(*) FROM (SELECT * FROM dear INTERSECT ALL SELECT * FROM cheap) GROUP BY channel, band
UNION ALL
SELECT 'except', channel, band, COUNT(*) FROM (SELECT * FROM dear EXCEPT ALL SELECT * FROM cheap) GROUP BY channel, band
UNION ALL
SELECT 'three', channel, band, COUNT(*) FROM (
  SELECT * FROM dear EXCEPT ALL SELECT * FROM cheap EXCEPT ALL SELECT channel, band FROM cheap WHERE band > 4
) GROUP BY channel, band
UNION ALL
SELECT 'distinct', channel, band, COUNT(*) FROM (SELECT DISTINCT * FROM cheap INTERSECT ALL SELECT * FROM dear) GROUP BY channel, band;
