-- The tables of Nexmark for DuckDB. ${EVENTS} are files of events.
CREATE TABLE nexmark AS SELECT * FROM read_json('${EVENTS}', format = 'newline_delimited', columns = {
  'event_type': 'INTEGER',
  'person': 'STRUCT(id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR, dateTime TIMESTAMP, extra VARCHAR)',
  'auction': 'STRUCT(id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT, dateTime TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR)',
  'bid': 'STRUCT(auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime TIMESTAMP, extra VARCHAR)'});
CREATE VIEW person AS SELECT unnest(person) FROM nexmark WHERE event_type = 0;
CREATE VIEW auction AS SELECT unnest(auction) FROM nexmark WHERE event_type = 1;
CREATE VIEW bid AS SELECT unnest(bid) FROM nexmark WHERE event_type = 2;
CREATE TABLE side_input AS SELECT range AS key, range::VARCHAR AS value FROM range(10000);
-- The start of the window of `size` seconds that a moment falls into.
CREATE MACRO bucket(ts, size) AS make_timestamp((floor(epoch_us(ts) / (size * 1000000.0)) * size * 1000000)::BIGINT);
