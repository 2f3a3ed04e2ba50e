-- Writes the events of the Nexmark cases into ${DATA}/nexmark, in two files whose event times interleave:
--   DATA=integration-tests/sql/data engine run --parallelism 2 integration-tests/sql/nexmark/events.sql
-- The files are then named 0.json and 1.json. 100 events per second of event time, so no two have the same time.
CREATE TABLE nexmark (
  event_type INT,
  person ROW<id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR,
             `dateTime` TIMESTAMP(3), extra VARCHAR>,
  auction ROW<id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT,
              `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, `dateTime` TIMESTAMP(3),
          extra VARCHAR>
) WITH (
  'connector' = 'nexmark', 'events.num' = '2000', 'seed' = '7', 'nexmark.splits' = '2',
  'first-event.rate' = '100', 'next-event.rate' = '100',
  'person.avg-size' = '90', 'auction.avg-size' = '110', 'bid.avg-size' = '40'
);

CREATE TABLE events WITH ('connector' = 'filesystem', 'path' = '${DATA}/nexmark', 'format' = 'json')
AS SELECT * FROM nexmark;
