CREATE TABLE changes_of_pairs (a BIGINT, b DOUBLE) WITH ('connector' = 'print');
INSERT INTO changes_of_pairs SELECT c.k, o.amount FROM clicks AS c,
  LATERAL (SELECT amount FROM orders WHERE k = c.k ORDER BY amount DESC LIMIT 3) AS o;
INSERT INTO changes_of_pairs SELECT c.k, o.most FROM clicks AS c
  LEFT JOIN LATERAL (SELECT MAX(amount) AS most FROM orders WHERE k = c.k) AS o ON TRUE;
