INSERT INTO pairs SELECT k, u, window_start FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY u * 2) AS rn
  FROM (SELECT k, RAND() AS u, window_start, window_end FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)))
) WHERE rn <= 3;
