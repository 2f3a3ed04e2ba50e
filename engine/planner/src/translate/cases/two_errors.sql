INSERT INTO names SELECT k, name FROM clicks ORDER BY k;
INSERT INTO names SELECT count(*), name FROM clicks GROUP BY name;
