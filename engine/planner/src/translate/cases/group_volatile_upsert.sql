CREATE TABLE totals (name VARCHAR, n BIGINT, at TIMESTAMP_LTZ(3), PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'blackhole');
INSERT INTO totals SELECT name, count(*), CURRENT_TIMESTAMP FROM clicks GROUP BY name;
