-- Construction of maps, and their values, keys and sizes.
CREATE TABLE result (id BIGINT, price BIGINT, missing BIGINT, n INT, ks INT, total BIGINT, joined STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, m['price'], m['none'], CARDINALITY(m), CARDINALITY(MAP_KEYS(m)), MAP_UNION(m, MAP['bidder', bidder])['bidder'],
       ARRAY_JOIN(ARRAY_SORT(MAP_KEYS(m)), ' ')
FROM (SELECT id, bidder, MAP['price', price, 'auction', auction] AS m FROM bids WHERE MOD(id, 5) = 2);
