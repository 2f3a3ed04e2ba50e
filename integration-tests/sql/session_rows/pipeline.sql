-- Rows of session windows: with the bounds of their session, with a condition, without keys, grouped by other keys, the first
-- rows of each session, and windows over their time.
CREATE TABLE result (query STRING, id BIGINT, auction BIGINT, v STRING, starts TIMESTAMP(3), ends TIMESTAMP(3), n BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

CREATE VIEW recent AS SELECT * FROM bids WHERE id > 1900;

INSERT INTO result
SELECT 'rows', id, auction, CONCAT(channel, ' ', DATE_FORMAT(window_end, 'mm:ss')), window_start, window_end, price
FROM TABLE(SESSION(TABLE recent PARTITION BY auction, DESCRIPTOR(ts), INTERVAL '6' SECOND))
UNION ALL
SELECT 'dear', id, auction, UPPER(channel), window_start, window_time, price
FROM TABLE(SESSION(TABLE bids PARTITION BY auction, DESCRIPTOR(ts), INTERVAL '6' SECOND)) WHERE price > 80000 AND auction > 1002
UNION ALL
SELECT 'keyless', id, auction, channel, window_start, window_end, price
FROM TABLE(SESSION(TABLE recent, DESCRIPTOR(ts), INTERVAL '0.1' SECOND)) WHERE window_start < ts
UNION ALL
SELECT 'channels', MIN(id), MAX(auction), channel, window_start, window_end, COUNT(*)
FROM TABLE(SESSION(TABLE bids PARTITION BY auction, DESCRIPTOR(ts), INTERVAL '6' SECOND)) GROUP BY channel, window_start, window_end
UNION ALL
SELECT 'first', id, auction, channel, window_start, window_end, CAST(rn AS BIGINT) FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, auction ORDER BY price DESC, id) AS rn
  FROM TABLE(SESSION(TABLE bids PARTITION BY auction, DESCRIPTOR(ts), INTERVAL '6' SECOND)))
WHERE rn <= 2
UNION ALL
SELECT 'minutes', MIN(id), auction, CAST(NULL AS STRING), window_start, window_end, SUM(price)
FROM TABLE(TUMBLE((SELECT id, auction, price, window_time AS ended
  FROM TABLE(SESSION(TABLE bids PARTITION BY auction, DESCRIPTOR(ts), INTERVAL '6' SECOND))), DESCRIPTOR(ended), INTERVAL '1' MINUTE))
GROUP BY auction, window_start, window_end;
