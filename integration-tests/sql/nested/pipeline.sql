-- ROW columns, field access, arrays, computed columns, JSON functions.
CREATE TABLE result (
  id BIGINT, seller BIGINT, colour STRING, width STRING, tag STRING, tags INT, reserve BIGINT
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, auction.seller, JSON_VALUE(attributes, '$.colour'), JSON_VALUE(attributes, '$.size.w'), auction.tags[2],
       CARDINALITY(auction.tags), reserve
FROM auctions WHERE auction.seller > 20;
