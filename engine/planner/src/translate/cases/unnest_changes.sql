CREATE TABLE baskets (id BIGINT, words ARRAY<STRING>, labels MAP<STRING, STRING>, PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'upsert-kafka', 'topic' = 'baskets', 'properties.bootstrap.servers' = 'b:1', 'key.format' = 'json', 'value.format' = 'json');
CREATE TABLE by_place (id BIGINT, place INT, word STRING, PRIMARY KEY (id, place) NOT ENFORCED)
WITH ('connector' = 'upsert-kafka', 'topic' = 'words', 'properties.bootstrap.servers' = 'b:1', 'key.format' = 'json', 'value.format' = 'json');
CREATE TABLE by_label (id BIGINT, k STRING, v STRING, PRIMARY KEY (id, k) NOT ENFORCED)
WITH ('connector' = 'upsert-kafka', 'topic' = 'labels', 'properties.bootstrap.servers' = 'b:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO by_place SELECT id, place, word FROM baskets CROSS JOIN UNNEST(words) WITH ORDINALITY AS t(word, place);
INSERT INTO by_label SELECT id, k, v FROM baskets CROSS JOIN UNNEST(labels) AS t(k, v);
