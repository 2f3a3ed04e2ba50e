INSERT INTO names SELECT n, UUID() FROM (SELECT name, count(*) AS n FROM clicks GROUP BY name);
