INSERT INTO names SELECT count(*), 'none' FROM clicks HAVING 1 = 2;
INSERT INTO names SELECT count(*), 'some' FROM clicks GROUP BY k HAVING 1 = 2 AND k > 3;
