-- An interval join whose rows are counted in windows of either event time.
CREATE TABLE result (started TIMESTAMP(3), n BIGINT, query STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

CREATE VIEW pairs AS SELECT a.ts AS auction_ts, b.ts AS bid_ts
FROM auctions a JOIN bids b ON a.id = b.auction AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '20' SECOND;

INSERT INTO result
SELECT window_start, count(*), 'bids'
FROM TABLE(TUMBLE(TABLE pairs, DESCRIPTOR(bid_ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end
UNION ALL
SELECT window_start, count(*), 'auctions'
FROM TABLE(TUMBLE(TABLE pairs, DESCRIPTOR(auction_ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
