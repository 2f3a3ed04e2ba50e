-- Session windows in the older form, per bidder.
CREATE TABLE result (bidder BIGINT, n BIGINT, starts TIMESTAMP(3), ends TIMESTAMP(3), total BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT bidder, count(*), SESSION_START(ts, INTERVAL '4' SECOND), SESSION_END(ts, INTERVAL '4' SECOND), sum(price)
FROM bids GROUP BY bidder, SESSION(ts, INTERVAL '4' SECOND);
