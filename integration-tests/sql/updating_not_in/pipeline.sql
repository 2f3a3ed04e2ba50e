-- NOT IN, whose rows depend on NULLs of the query, which one query has and the others have not.
-- key columns: 3
CREATE TABLE result (id BIGINT, time STRING, query STRING)
WITH ('connector' = 'print');

INSERT INTO result
SELECT id, DATE_FORMAT(ts, 'HH:mm:ss.SSS'), 'none' FROM auctions WHERE id NOT IN (SELECT auction FROM bids WHERE price IS NOT NULL)
UNION ALL
SELECT id, DATE_FORMAT(ts, 'HH:mm:ss.SSS'), 'null' FROM auctions WHERE category NOT IN (SELECT channel FROM bids)
UNION ALL
SELECT id, DATE_FORMAT(ts, 'HH:mm:ss.SSS'), 'reserve' FROM auctions WHERE reserve NOT IN (SELECT bidder FROM bids WHERE bidder < 30);
