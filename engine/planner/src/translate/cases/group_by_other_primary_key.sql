CREATE TABLE totals (n BIGINT, name VARCHAR, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'blackhole');
INSERT INTO totals SELECT count(*), name FROM clicks GROUP BY name;
