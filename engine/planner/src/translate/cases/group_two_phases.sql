SET 'table.optimizer.agg-phase-strategy' = 'TWO_PHASE';
CREATE TABLE per_name (name VARCHAR, n BIGINT, high BIGINT) WITH ('connector' = 'print');
CREATE TABLE names_by_count (n BIGINT, names BIGINT) WITH ('connector' = 'print');
CREATE TABLE one_phase (n BIGINT, high BIGINT) WITH ('connector' = 'print');
INSERT INTO per_name SELECT name, count(*) FILTER (WHERE price > 3), max(price) FROM clicks GROUP BY name;
INSERT INTO names_by_count SELECT n, count(*) FROM (SELECT name, count(*) AS n FROM clicks GROUP BY name) GROUP BY n;
INSERT INTO one_phase SELECT n, max(n) FROM (SELECT name, count(*) AS n FROM clicks GROUP BY name) GROUP BY n;
