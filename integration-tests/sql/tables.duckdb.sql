-- The same tables for DuckDB.
CREATE TABLE bids AS SELECT * FROM read_csv('${DATA}/bids.csv', header = true, nullstr = '', columns = {
  'id': 'BIGINT', 'auction': 'BIGINT', 'bidder': 'BIGINT', 'price': 'BIGINT', 'channel': 'VARCHAR', 'url': 'VARCHAR',
  'fee': 'DECIMAL(8, 2)', 'ts': 'TIMESTAMP'});
CREATE TABLE auctions AS
SELECT *, auction.id AS id FROM read_json('${DATA}/auctions.json', format = 'newline_delimited', columns = {
  'auction': 'STRUCT(id BIGINT, seller BIGINT, tags VARCHAR[])', 'category': 'VARCHAR', 'reserve': 'BIGINT',
  'attributes': 'VARCHAR', 'ts': 'TIMESTAMP'});
-- The start of the window of `size` seconds that a moment falls into.
CREATE MACRO bucket(ts, size) AS make_timestamp((floor(epoch_us(ts) / (size * 1000000.0)) * size * 1000000)::BIGINT);
CREATE MACRO seconds(n) AS to_seconds(n);
