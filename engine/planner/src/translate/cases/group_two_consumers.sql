CREATE TABLE totals (name VARCHAR, n BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'blackhole');
CREATE VIEW per_name AS SELECT name, count(*) AS n FROM clicks GROUP BY name;
INSERT INTO totals SELECT name, n FROM per_name;
INSERT INTO names SELECT n, name FROM per_name WHERE n > 10;
