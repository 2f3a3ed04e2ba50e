-- Windows of days and hours of Berlin, around the end of summer time: the hour from 02:00 occurs twice.
SET 'table.local-time-zone' = 'Europe/Berlin';

CREATE TABLE moments (
  id BIGINT, auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, fee DECIMAL(8, 2), ts TIMESTAMP(3),
  -- A second of the file is a quarter of an hour, from 2026-10-24 18:00 UTC.
  moment AS TO_TIMESTAMP_LTZ(1792864800000 + 900 * TIMESTAMPDIFF(MILLISECOND, TIMESTAMP '2026-01-01 08:00:00', ts), 3),
  WATERMARK FOR moment AS moment - INTERVAL '75' MINUTE
) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/bids.csv', 'format' = 'csv', 'csv.header' = 'true', 'csv.null-literal' = '',
  'scan.rate-limit' = '${RATE}'
);

CREATE TABLE result (size STRING, starts TIMESTAMP(3), ends TIMESTAMP(3), latest STRING, n BIGINT, total BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT 'day', window_start, window_end, CAST(window_time AS STRING), count(*), sum(price)
FROM TABLE(TUMBLE(TABLE moments, DESCRIPTOR(moment), INTERVAL '1' DAY))
GROUP BY window_start, window_end, window_time
UNION ALL
SELECT DATE_FORMAT(MAX(moment), 'EEE'), window_start, window_end, CAST(FLOOR(MAX(moment) TO HOUR) AS STRING), count(*), sum(price)
FROM TABLE(TUMBLE(TABLE moments, DESCRIPTOR(moment), INTERVAL '1' HOUR))
GROUP BY window_start, window_end;
