-- Functions of regular expressions.
CREATE TABLE result (id BIGINT, matches BOOLEAN, digits STRING, masked STRING, n BIGINT, first_ STRING, named BOOLEAN)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, REGEXP(url, 'item/[0-9]{3}[?]'), REGEXP_EXTRACT(url, 'item/([0-9]+)', 1), REGEXP_REPLACE(url, '[0-9]+', '#'),
       REGEXP_COUNT(url, '[0-9]'), REGEXP_SUBSTR(channel, '[aeiou]+'), channel SIMILAR TO '(apple|google)'
FROM bids WHERE MOD(id, 7) < 2;
