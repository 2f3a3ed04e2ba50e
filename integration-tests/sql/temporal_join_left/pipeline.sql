-- A left temporal join: each bid gets the factor of its channel that is valid at its time.
CREATE TABLE factors (
  channel STRING, factor DECIMAL(4, 2), since TIMESTAMP(3), PRIMARY KEY (channel) NOT ENFORCED,
  WATERMARK FOR since AS since - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/factors.json', 'format' = 'debezium-json');

CREATE TABLE result (id BIGINT, factor DECIMAL(4, 2), since TIMESTAMP(3))
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT b.id, f.factor, f.since
FROM bids AS b LEFT JOIN factors FOR SYSTEM_TIME AS OF b.ts AS f ON b.channel = f.channel;
