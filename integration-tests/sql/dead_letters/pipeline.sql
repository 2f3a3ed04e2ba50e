-- Rows that a condition fails, read as a table.
CREATE TABLE result (kind STRING, reason STRING, id BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

SET 'table.exec.on-error' = 'dead-letter';
CREATE VIEW checked AS
SELECT id, channel FROM bids
WHERE id < 600
  AND (channel IS NOT NULL OR RAISE_ERROR('there is no channel'))
  AND (MOD(price, 10) <> 0 OR RAISE_ERROR('the price is ' || COALESCE(CAST(price AS STRING), 'missing')));
RESET 'table.exec.on-error';

INSERT INTO result SELECT 'good', channel, id FROM checked;
INSERT INTO result
SELECT 'bad', error, CAST(JSON_VALUE(CAST(payload AS STRING), '$.id') AS BIGINT) FROM checked.dead_letters
WHERE error <> 'the price is 200';
