INSERT INTO pairs SELECT l.k, r.amount, r.at FROM clicks l JOIN orders r ON l.k = r.k AND r.at BETWEEN l.ts AND l.other;
