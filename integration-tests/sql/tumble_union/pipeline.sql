-- A window over the union of two tables.
CREATE VIEW events AS SELECT 'bid' AS kind, price AS v, ts FROM bids UNION ALL SELECT category, reserve, ts FROM auctions;

CREATE TABLE result (wstart TIMESTAMP(3), kind STRING, n BIGINT, highest BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, kind, COUNT(*), MAX(v)
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, kind;
