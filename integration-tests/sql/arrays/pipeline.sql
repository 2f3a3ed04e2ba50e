-- Functions of arrays.
CREATE TABLE result (reserve BIGINT, n INT, has BOOLEAN, at_ INT, joined STRING, sorted STRING, longer STRING, part STRING, last_ STRING, without STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT reserve, CARDINALITY(tags), ARRAY_CONTAINS(tags, 'cars'), ARRAY_POSITION(tags, 'wine'), ARRAY_JOIN(tags, '+'),
       ARRAY_JOIN(ARRAY_SORT(tags, FALSE), ' '), ARRAY_JOIN(ARRAY_CONCAT(tags, ARRAY['old', category]), ' '),
       ARRAY_JOIN(ARRAY_SLICE(tags, 2), ' '), ARRAY_MAX(tags), ARRAY_JOIN(ARRAY_REMOVE(ARRAY_DISTINCT(tags), 'new'), ' ')
FROM (SELECT reserve, category, auction.tags AS tags FROM auctions);
