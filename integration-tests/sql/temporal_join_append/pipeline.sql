-- An append-only table with a primary key is a versioned table, too: each row is the next version of its key.
CREATE TABLE versions (category STRING, reserve BIGINT, ts TIMESTAMP(3), PRIMARY KEY (category) NOT ENFORCED,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/auctions.json', 'format' = 'json', 'scan.rate-limit' = '${RATE}');

CREATE TABLE result (id BIGINT, reserve BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT b.id, v.reserve
FROM bids AS b JOIN versions FOR SYSTEM_TIME AS OF b.ts AS v
ON v.category = CASE b.auction % 4 WHEN 0 THEN 'art' WHEN 1 THEN 'cars' WHEN 2 THEN 'wine' END
WHERE v.reserve > 50;
