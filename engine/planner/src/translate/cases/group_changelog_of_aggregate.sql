INSERT INTO names SELECT count(*), CAST(n AS VARCHAR) FROM (SELECT name, count(*) AS n FROM clicks GROUP BY name) GROUP BY n;
