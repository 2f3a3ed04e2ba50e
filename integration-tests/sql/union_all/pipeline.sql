-- UNION ALL of two streams, then a window over both.
CREATE TABLE result (kind STRING, wstart TIMESTAMP(3), n BIGINT, ids BIGINT) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

CREATE VIEW events AS
SELECT 'bid' AS kind, auction AS id, ts FROM bids
UNION ALL
SELECT 'auction', id, ts FROM auctions;

INSERT INTO result
SELECT kind, window_start, count(*), sum(id)
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY kind, window_start, window_end;
