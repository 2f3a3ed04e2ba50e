CREATE TABLE totals (n BIGINT, name VARCHAR, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'blackhole');
CREATE TABLE by_name (n BIGINT, name VARCHAR, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'blackhole');
INSERT INTO by_name SELECT count(*), name FROM clicks GROUP BY name ON CONFLICT DO NOTHING;
INSERT INTO totals SELECT count(*), name FROM clicks GROUP BY name ON CONFLICT DO DEDUPLICATE;
