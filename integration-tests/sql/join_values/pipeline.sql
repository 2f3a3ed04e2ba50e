-- Rows joined with those that the query contains itself.
CREATE TABLE result (id BIGINT, name STRING, rate BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT b.id, v.name, v.rate FROM bids AS b JOIN (VALUES ('apple', 'Apple Inc.', 3), ('baidu', 'Baidu', 5)) AS v(channel, name, rate)
ON b.channel = v.channel WHERE MOD(b.id, 2) = 0;
