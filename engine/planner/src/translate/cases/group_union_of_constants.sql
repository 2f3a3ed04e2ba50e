INSERT INTO names SELECT sum(b), 'constants' FROM (SELECT k AS a, 1 AS b FROM clicks UNION ALL SELECT k AS a, price AS b FROM clicks) GROUP BY a;
INSERT INTO names SELECT sum(b), 'copies' FROM (SELECT k AS a, k AS b FROM clicks UNION ALL SELECT k AS a, price AS b FROM clicks) GROUP BY a;
