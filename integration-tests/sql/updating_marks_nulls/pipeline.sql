-- IN (SELECT ...) in the SELECT list, and NOT IN under OR, with NULLs on both sides and without rows.
-- key columns: 3
CREATE TABLE result (id BIGINT, time STRING, query STRING, value STRING)
WITH ('connector' = 'print');

INSERT INTO result
SELECT id, DATE_FORMAT(ts, 'HH:mm:ss.SSS'), 'or not in', CAST(reserve AS STRING) FROM auctions
WHERE reserve NOT IN (SELECT bidder FROM bids WHERE price > 70000) OR category NOT IN (SELECT channel FROM bids)
UNION ALL
SELECT id, DATE_FORMAT(ts, 'HH:mm:ss.SSS'), 'in', CAST(reserve IN (SELECT bidder FROM bids) AS STRING) FROM auctions
UNION ALL
SELECT id, DATE_FORMAT(ts, 'HH:mm:ss.SSS'), 'in nulls', CAST(reserve * 100 IN (SELECT price FROM bids) AS STRING) FROM auctions
UNION ALL
SELECT id, DATE_FORMAT(ts, 'HH:mm:ss.SSS'), 'in nothing', CAST(reserve NOT IN (SELECT price FROM bids WHERE price < 0) AS STRING)
FROM auctions;
