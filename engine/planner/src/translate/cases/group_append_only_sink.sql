CREATE TABLE files (name VARCHAR, n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');
INSERT INTO files SELECT name, count(*) FROM clicks GROUP BY name;
