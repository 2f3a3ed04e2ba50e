-- A left interval join: rows without a match are emitted when they expire, and never retracted.
CREATE TABLE result (auction BIGINT, bid BIGINT, category STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT a.id, b.id, a.category
FROM auctions a LEFT JOIN bids b ON a.id = b.auction AND b.ts BETWEEN a.ts - INTERVAL '5' SECOND AND a.ts + INTERVAL '20' SECOND;
