INSERT INTO pairs SELECT c.k, o.amount, c.ts FROM clicks AS c, LATERAL (SELECT amount FROM orders WHERE k > c.k ORDER BY amount DESC LIMIT 3) AS o;
