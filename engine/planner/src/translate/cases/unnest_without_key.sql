CREATE TABLE baskets (id BIGINT, words ARRAY<STRING>, PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'upsert-kafka', 'topic' = 'baskets', 'properties.bootstrap.servers' = 'b:1', 'key.format' = 'json', 'value.format' = 'json');
CREATE TABLE words (id BIGINT, word STRING, PRIMARY KEY (id, word) NOT ENFORCED)
WITH ('connector' = 'upsert-kafka', 'topic' = 'words', 'properties.bootstrap.servers' = 'b:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO words SELECT id, word FROM baskets CROSS JOIN UNNEST(words) AS word;
