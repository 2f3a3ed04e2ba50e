-- The tables that every case reads. ${DATA}, ${OUT} and ${RATE} are set by the harness.
CREATE TABLE bids (
  id BIGINT, auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, fee DECIMAL(8, 2), ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/bids.csv', 'format' = 'csv', 'csv.header' = 'true', 'csv.null-literal' = '',
  'scan.rate-limit' = '${RATE}'
);

CREATE TABLE auctions (
  auction ROW<id BIGINT, seller BIGINT, tags ARRAY<STRING>>,
  category STRING,
  reserve BIGINT,
  attributes STRING,
  ts TIMESTAMP(3),
  id AS auction.id,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/auctions.json', 'format' = 'json', 'scan.rate-limit' = '${RATE}'
);
