-- Rows of a temporal join keep their event time.
CREATE TABLE factors (
  channel STRING, factor DECIMAL(4, 2), since TIMESTAMP(3), PRIMARY KEY (channel) NOT ENFORCED,
  WATERMARK FOR since AS since - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/factors.json', 'format' = 'debezium-json');

CREATE VIEW priced AS
SELECT b.ts, b.channel, b.price, f.factor
FROM bids AS b JOIN factors FOR SYSTEM_TIME AS OF b.ts AS f ON b.channel = f.channel AND b.price > 0;

CREATE TABLE result (channel STRING, starts TIMESTAMP(3), total DECIMAL(20, 2))
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT channel, window_start, CAST(SUM(CAST(price AS DECIMAL(16, 0)) * factor) AS DECIMAL(20, 2))
FROM TABLE(TUMBLE(TABLE priced, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY channel, window_start, window_end;
