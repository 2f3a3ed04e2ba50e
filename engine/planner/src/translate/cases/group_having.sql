INSERT INTO names SELECT count(*), name FROM clicks GROUP BY name HAVING count(*) > 3;
