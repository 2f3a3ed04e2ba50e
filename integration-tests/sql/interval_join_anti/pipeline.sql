-- NOT EXISTS and EXISTS with bounds of event times.
CREATE TABLE result (id BIGINT, query STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT a.id, 'no bid' FROM auctions a WHERE NOT EXISTS (
  SELECT 1 FROM bids b WHERE b.auction = a.id AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '10' SECOND)
UNION ALL
SELECT a.id, 'bid' FROM auctions a WHERE EXISTS (
  SELECT 1 FROM bids b WHERE b.auction = a.id AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '10' SECOND);
