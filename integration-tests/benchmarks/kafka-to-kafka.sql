-- Decode JSON, filter lightly, convert, encode JSON.
CREATE TABLE bids (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, dateTime TIMESTAMP(3),
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND
) WITH (
  'connector' = 'kafka', 'topic' = 'bids', 'properties.bootstrap.servers' = '${BROKERS}', 'format' = 'json',
  'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'
);

CREATE TABLE prices (auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), channel VARCHAR, dateTime TIMESTAMP(3))
WITH ('connector' = 'kafka', 'topic' = '${OUT}', 'properties.bootstrap.servers' = '${BROKERS}', 'format' = 'json',
  'sink.delivery-guarantee' = '${DELIVERY}');

INSERT INTO prices
SELECT auction, bidder, 0.908 * price, channel, dateTime FROM bids WHERE MOD(auction, 100) <> 0;
