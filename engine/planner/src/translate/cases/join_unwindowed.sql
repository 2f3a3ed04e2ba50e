INSERT INTO pairs SELECT l.k, r.amount, l.ts FROM clicks l JOIN orders r ON l.k = r.k;
