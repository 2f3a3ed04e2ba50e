SET 'table.exec.state.ttl' = '1 h';
INSERT INTO names SELECT count(*), name FROM clicks GROUP BY name;
