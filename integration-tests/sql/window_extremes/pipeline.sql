-- The rows that have their window's maximum and minimum, per key: a join with an aggregate over the same rows.
CREATE TABLE result (kind STRING, id BIGINT, auction BIGINT, price BIGINT, window_end TIMESTAMP(3))
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT 'highest', B.id, B.auction, B.price, B.window_end
FROM (
  SELECT id, auction, price, window_start, window_end
  FROM TABLE(HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
) B
JOIN (
  SELECT auction, MAX(price) AS highest, window_start, window_end
  FROM TABLE(HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
  GROUP BY auction, window_start, window_end
) M
ON B.window_start = M.window_start AND B.window_end = M.window_end AND B.auction = M.auction AND B.price = M.highest;

INSERT INTO result
SELECT 'cheapest', B.id, B.auction, B.price, M.window_end
FROM (
  SELECT MIN(fee) AS least, window_start, window_end
  FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  WHERE price > 20000
  GROUP BY window_start, window_end
) M
LEFT JOIN (
  SELECT id, auction, price, fee, window_start, window_end
  FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  WHERE price > 20000 AND auction > 1005
) B
ON B.window_start = M.window_start AND B.window_end = M.window_end AND B.fee = M.least;
