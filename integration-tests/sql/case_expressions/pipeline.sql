-- CASE with conditions, with values and with lists of values; IF, COALESCE, NULLIF, IFNULL.
CREATE TABLE result (id BIGINT, size STRING, kind STRING, flag STRING, known BIGINT, other BIGINT, zero BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id,
       CASE WHEN price < 1000 THEN 'small' WHEN price < 50000 THEN 'middle' WHEN price IS NULL THEN 'none' ELSE 'large' END,
       CASE channel WHEN 'apple', 'google' THEN 'search' WHEN 'facebook' THEN 'social' ELSE 'other' END,
       IF(MOD(id, 2) = 0, 'even', 'odd'), COALESCE(price, bidder, 0), NULLIF(bidder, 15), IFNULL(price, -1)
FROM bids WHERE MOD(id, 3) = 0;
