INSERT INTO names SELECT count(*), name FROM clicks GROUP BY name UNION ALL SELECT k, name FROM clicks WHERE k > 7;
