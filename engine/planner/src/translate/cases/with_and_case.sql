INSERT INTO names WITH big AS (SELECT k, CASE WHEN price > 100 THEN 'big' ELSE name END AS label FROM clicks WHERE price > 50)
SELECT k, label FROM big;
