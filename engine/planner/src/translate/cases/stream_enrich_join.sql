INSERT INTO pairs SELECT l.k, r.amount, l.ts FROM clicks l LEFT JOIN orders FOR SYSTEM_TIME AS OF l.p AS r ON l.k = r.k;
