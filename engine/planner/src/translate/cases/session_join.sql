INSERT INTO pairs SELECT c.k, o.amount, c.window_start
FROM TABLE(SESSION(TABLE clicks PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) AS c
LEFT JOIN TABLE(SESSION(TABLE orders PARTITION BY k, DESCRIPTOR(at), INTERVAL '10' MINUTE)) AS o
ON c.k = o.k AND c.window_start = o.window_start AND c.window_end = o.window_end;
