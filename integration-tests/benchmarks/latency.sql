-- Bids at a fixed rate in real time, counted per key over one second, every 200 ms.
CREATE TABLE nexmark (
  event_type INT,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime TIMESTAMP(3), extra VARCHAR>,
  dateTime AS bid.dateTime,
  WATERMARK FOR dateTime AS dateTime
) WITH (
  'connector' = 'nexmark',
  'first-event.rate' = '${RATE}', 'next-event.rate' = '${RATE}', 'events.num' = '${EVENTS}',
  'person.proportion' = '0', 'auction.proportion' = '0', 'bid.proportion' = '50',
  'nexmark.pace' = 'true'
);

CREATE VIEW keyed AS SELECT MOD(bid.price, 10000) AS k, dateTime FROM nexmark;

CREATE TABLE result (k BIGINT, window_end TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT k, window_end, count(*)
FROM TABLE(HOP(TABLE keyed, DESCRIPTOR(dateTime), INTERVAL '0.2' SECOND, INTERVAL '1' SECOND))
GROUP BY k, window_start, window_end;
