INSERT INTO names SELECT k, REGEXP_EXTRACT(name, '(') FROM clicks;
INSERT INTO names SELECT k, DATE_FORMAT(ts, 'yyyy-bb') FROM clicks;
INSERT INTO names SELECT k, PARSE_URL(name, 'HOSTS') FROM clicks;
INSERT INTO names SELECT k, JSON_VALUE(name, '$.') FROM clicks;
INSERT INTO names SELECT k, name FROM clicks WHERE REGEXP(name, '[') AND EXTRACT(FORTNIGHT FROM ts) = 1;
