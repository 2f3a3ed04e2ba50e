-- Case, padding and repetition of text, with NULLs and text beyond ASCII.
CREATE TABLE result (id BIGINT, n INT, up STRING, low STRING, backwards STRING, twice STRING, pl STRING, pr STRING, stripped STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, CHAR_LENGTH(channel), UPPER(channel), LOWER(UPPER(channel)), REVERSE(channel), REPEAT(channel, 2),
       LPAD(channel, 8, '*'), RPAD(channel, 5, '-'), TRIM(BOTH 'a' FROM channel)
FROM bids WHERE MOD(id, 4) = 1;
