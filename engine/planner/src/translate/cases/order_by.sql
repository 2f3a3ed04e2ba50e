INSERT INTO names SELECT k, name FROM clicks ORDER BY k;
