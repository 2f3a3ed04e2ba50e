-- Rows reach the join where the maximum is not known to be at least theirs, or they leave without a match: not its rows,
-- not for each of its keys, not a maximum, of a type with NaN.
CREATE TABLE bid (auction BIGINT, price BIGINT, fee DECIMAL(8, 2), weight DOUBLE, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE a (auction BIGINT, price BIGINT) WITH ('connector' = 'blackhole');
CREATE TABLE b (auction BIGINT, price BIGINT) WITH ('connector' = 'blackhole');
CREATE TABLE c (auction BIGINT, price BIGINT) WITH ('connector' = 'blackhole');
CREATE TABLE d (auction BIGINT, price BIGINT) WITH ('connector' = 'blackhole');
CREATE TABLE e (auction BIGINT, price BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO a
SELECT B.auction, B.price
FROM (SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))) B
JOIN (
  SELECT MAX(price) AS best, window_start, window_end
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE price > 1
  GROUP BY window_start, window_end
) M
ON B.window_start = M.window_start AND B.window_end = M.window_end AND B.price = M.best;
INSERT INTO b
SELECT B.auction, B.price
FROM (SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))) B
JOIN (
  SELECT auction, MAX(price) AS best, window_start, window_end
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY auction, window_start, window_end
) M
ON B.window_start = M.window_start AND B.window_end = M.window_end AND B.price = M.best;
INSERT INTO c
SELECT B.auction, B.price
FROM (SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))) B
JOIN (
  SELECT SUM(price) AS best, window_start, window_end
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end
) M
ON B.window_start = M.window_start AND B.window_end = M.window_end AND B.price = M.best;
INSERT INTO d
SELECT B.auction, B.price
FROM (SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))) B
JOIN (
  SELECT MAX(weight) AS best, window_start, window_end
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end
) M
ON B.window_start = M.window_start AND B.window_end = M.window_end AND B.weight = M.best;
INSERT INTO e
SELECT B.auction, B.price
FROM (SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))) B
LEFT JOIN (
  SELECT MAX(price) AS best, window_start, window_end
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end
) M
ON B.window_start = M.window_start AND B.window_end = M.window_end AND B.price = M.best;
