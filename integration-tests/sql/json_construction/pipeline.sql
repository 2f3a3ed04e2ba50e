-- JSON made of columns.
CREATE TABLE result (id BIGINT, a STRING, b STRING, c STRING, d STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, JSON_OBJECT('auction' VALUE auction, 'price' VALUE price), JSON_OBJECT('price' VALUE price ABSENT ON NULL),
       JSON_ARRAY(auction, channel NULL ON NULL), JSON_STRING(channel)
FROM bids WHERE MOD(id, 6) = 1;
