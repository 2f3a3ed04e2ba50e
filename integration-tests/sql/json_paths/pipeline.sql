-- Values, objects and defaults at JSON paths.
CREATE TABLE result (id BIGINT, colour STRING, w INT, missing STRING, size STRING, has_size BOOLEAN, has_depth BOOLEAN, valid BOOLEAN)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT reserve, JSON_VALUE(attributes, '$.colour'), JSON_VALUE(attributes, '$.size.w' RETURNING INT),
       JSON_VALUE(attributes, 'lax $.depth' DEFAULT 'none' ON EMPTY), JSON_QUERY(attributes, '$.size'),
       JSON_EXISTS(attributes, '$.size'), JSON_EXISTS(attributes, '$.depth'), attributes IS JSON OBJECT
FROM auctions WHERE reserve > 300;
