INSERT INTO names SELECT sum(n), name FROM (
  SELECT name, count(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY name, window_start, window_end
) GROUP BY name;
