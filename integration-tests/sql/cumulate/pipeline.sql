-- Cumulating windows: steps of 5 s up to 20 s.
CREATE TABLE result (bidder BIGINT, wstart TIMESTAMP(3), wend TIMESTAMP(3), n BIGINT, auctions BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT bidder, window_start, window_end, count(*), count(DISTINCT auction)
FROM TABLE(CUMULATE(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND))
GROUP BY bidder, window_start, window_end;
