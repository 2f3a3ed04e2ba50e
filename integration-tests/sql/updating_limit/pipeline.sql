-- The third to the seventh highest bid.
-- key columns: 2
CREATE TABLE result (id BIGINT, price BIGINT) WITH ('connector' = 'print');

INSERT INTO result SELECT id, price FROM bids ORDER BY price DESC NULLS LAST, id LIMIT 5 OFFSET 2;
