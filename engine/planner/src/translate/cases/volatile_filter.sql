CREATE TABLE numbers (u DOUBLE, n INT, s STRING) WITH ('connector' = 'blackhole');
INSERT INTO numbers SELECT u, n, s FROM (SELECT RAND() u, RAND_INTEGER(3) n, UUID() s FROM clicks) WHERE u > 0.5 AND n = 1 AND s LIKE 'a%';
CREATE TABLE two (a DOUBLE, b DOUBLE, c DOUBLE) WITH ('connector' = 'blackhole');
INSERT INTO two SELECT a, b, a + b FROM (SELECT RAND() a, RAND() b FROM clicks);
INSERT INTO two SELECT a, a, a FROM (SELECT RAND() a FROM clicks);
