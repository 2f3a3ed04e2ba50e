-- Every common aggregate per key and tumbling window, NULL keys and NULL arguments included.
CREATE TABLE result (
  channel STRING, wstart TIMESTAMP(3), wend TIMESTAMP(3), n BIGINT, priced BIGINT, total BIGINT, low BIGINT,
  high BIGINT, fees DECIMAL(18, 2), first_url STRING, mean DECIMAL(20, 4)
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT channel, window_start, window_end, count(*), count(price), sum(price), min(price), max(price), sum(fee), min(url),
       CAST(avg(CAST(price AS DOUBLE)) AS DECIMAL(20, 4))
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY channel, window_start, window_end;
