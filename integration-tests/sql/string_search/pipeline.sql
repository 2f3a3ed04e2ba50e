-- Positions and parts of text.
CREATE TABLE result (id BIGINT, a INT, b INT, c INT, d STRING, e STRING, f STRING, g STRING, h BOOLEAN, i BOOLEAN)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, POSITION('item' IN url), LOCATE('e', channel), INSTR(channel, 'o'), SUBSTRING(url FROM 9 FOR 4), SUBSTRING(channel, 3),
       LEFT(channel, 3), RIGHT(channel, 2), STARTSWITH(channel, 'ch'), ENDSWITH(channel, 'e')
FROM bids WHERE MOD(id, 5) < 2;
