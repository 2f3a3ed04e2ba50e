CREATE TABLE totals (name VARCHAR, n BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'blackhole');
CREATE TABLE others (name VARCHAR, n BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'blackhole');
INSERT INTO totals SELECT name, count(*) FROM clicks GROUP BY name HAVING count(*) < 5;
INSERT INTO others SELECT name, count(*) FROM clicks GROUP BY name HAVING name <> 'x';
