INSERT INTO names SELECT count(*), name FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY name, window_start, window_end HAVING RAND() < 0.5 AND name <> 'x';
