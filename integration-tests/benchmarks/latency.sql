-- Bids at a fixed rate in real time, counted per key over one second, every 200 ms. 46 of 50 events are bids.
CREATE TABLE nexmark (
  event_type INT,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime TIMESTAMP(3), extra VARCHAR>,
  dateTime AS bid.dateTime,
  WATERMARK FOR dateTime AS dateTime
) WITH (
  'connector' = 'nexmark',
  'first-event.rate' = '${RATE}', 'next-event.rate' = '${RATE}', 'events.num' = '${EVENTS}',
  'nexmark.pace' = 'true', 'nexmark.start-time' = 'now'
);

CREATE VIEW keyed AS SELECT MOD(bid.price, 10000) AS k, dateTime FROM nexmark WHERE event_type = 2;

CREATE TABLE result (k BIGINT, window_end TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT k, window_end, count(*)
FROM TABLE(HOP(TABLE keyed, DESCRIPTOR(dateTime), INTERVAL '0.2' SECOND, INTERVAL '1' SECOND))
GROUP BY k, window_start, window_end;
