INSERT INTO names SELECT count(*), name FROM clicks GROUP BY ROLLUP (name);
