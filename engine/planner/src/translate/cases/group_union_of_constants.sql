INSERT INTO pairs SELECT a, sum(b), w FROM (
  SELECT k AS a, 1 AS b, window_start AS w, window_end AS e FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  UNION ALL
  SELECT k AS a, price AS b, window_start, window_end FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
) GROUP BY a, w, e;
