-- An interval join whose bounds are columns of the rows, of which some are NULL.
CREATE TABLE result (auction BIGINT, bid BIGINT, price BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT a.id, b.id, b.price
FROM (SELECT id, ts, TIMESTAMPADD(SECOND, CAST(reserve AS INT), ts) AS expires FROM auctions WHERE category = 'art') a
JOIN bids b ON a.id = b.auction AND b.ts >= a.ts AND b.ts < a.expires;
