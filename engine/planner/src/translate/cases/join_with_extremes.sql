-- Rows that a maximum of the same rows beats do not reach the join.
CREATE TABLE bid (auction BIGINT, price BIGINT, fee DECIMAL(8, 2), weight DOUBLE, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE a (auction BIGINT, price BIGINT) WITH ('connector' = 'blackhole');
CREATE TABLE b (auction BIGINT, price BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO a
SELECT B.auction, B.price
FROM (SELECT * FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)) WHERE price > 1 AND auction > 2) B
JOIN (
  SELECT auction, MIN(fee) AS best, window_start, window_end
  FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)) WHERE price > 1
  GROUP BY auction, window_start, window_end
) M
ON B.window_start = M.window_start AND B.window_end = M.window_end AND B.auction = M.auction AND B.fee = M.best;
INSERT INTO b
SELECT B.auction, B.price
FROM (SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))) B
RIGHT JOIN (
  SELECT MAX(price) AS best, window_start, window_end
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end
) M
ON B.window_start = M.window_start AND B.window_end = M.window_end AND B.price = M.best;
