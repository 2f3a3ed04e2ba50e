CREATE TABLE totals (name VARCHAR, n BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'blackhole');
INSERT INTO totals SELECT name, count(*) FROM clicks GROUP BY name;
