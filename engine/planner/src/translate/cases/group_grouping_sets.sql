INSERT INTO names SELECT count(*), name FROM clicks GROUP BY ROLLUP (name);
INSERT INTO names SELECT count(*) + GROUPING(k), name FROM clicks GROUP BY CUBE (name, k);
