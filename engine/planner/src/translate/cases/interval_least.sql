INSERT INTO pairs SELECT l.k, r.amount, r.at FROM clicks l LEFT JOIN orders r ON l.k = r.k AND r.at >= l.ts AND r.at <= l.other AND l.ts > r.at - INTERVAL '1' HOUR AND r.amount > l.score;
