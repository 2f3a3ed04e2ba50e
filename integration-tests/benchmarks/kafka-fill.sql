-- Nexmark bids as JSON, about 130 bytes each.
CREATE TABLE nexmark (
  event_type INT,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime TIMESTAMP(3), extra VARCHAR>
) WITH (
  'connector' = 'nexmark', 'first-event.rate' = '100000', 'next-event.rate' = '100000', 'events.num' = '${EVENTS}'
);

CREATE TABLE bids (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, dateTime TIMESTAMP(3))
WITH ('connector' = 'kafka', 'topic' = 'bids', 'properties.bootstrap.servers' = '${BROKERS}', 'format' = 'json');

INSERT INTO bids SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.dateTime FROM nexmark WHERE event_type = 2;
