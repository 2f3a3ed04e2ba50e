-- A temporal join with a versioned view: the last row of each auction by event time, if it meets conditions.
CREATE VIEW versions AS
SELECT id, category, reserve FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY id ORDER BY ts DESC) AS rn FROM auctions)
WHERE rn = 1 AND category <> 'coins';

CREATE TABLE result (id BIGINT, category STRING, reserve BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT b.id, v.category, v.reserve
FROM bids AS b LEFT JOIN versions FOR SYSTEM_TIME AS OF b.ts AS v
ON b.auction = v.id AND v.category = CASE WHEN b.bidder % 3 = 0 THEN 'art' ELSE 'cars' END AND v.reserve < b.price;
