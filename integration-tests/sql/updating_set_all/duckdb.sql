WITH dear AS (SELECT channel, bidder // 4 AS band FROM bids WHERE price > 40000),
cheap AS (SELECT channel, bidder // 4 AS band FROM bids WHERE price < 30000)
SELECT 'intersect', channel, band, count(*) FROM (SELECT * FROM dear INTERSECT ALL SELECT * FROM cheap) GROUP BY channel, band
UNION ALL
SELECT 'except', channel, band, count(*) FROM (SELECT * FROM dear EXCEPT ALL SELECT * FROM cheap) GROUP BY channel, band
UNION ALL
SELECT 'three', channel, band, count(*) FROM (
  SELECT * FROM dear EXCEPT ALL SELECT * FROM cheap EXCEPT ALL SELECT channel, band FROM cheap WHERE band > 4
) GROUP BY channel, band
UNION ALL
SELECT 'distinct', channel, band, count(*) FROM (SELECT DISTINCT * FROM cheap INTERSECT ALL SELECT * FROM dear) GROUP BY channel, band;
