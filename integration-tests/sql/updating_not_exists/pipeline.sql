-- Rows without a counterpart.
-- key columns: 1
CREATE TABLE result (id BIGINT, auction BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT id, auction FROM bids AS b WHERE price > 60000 AND NOT EXISTS (SELECT 1 FROM bids AS h WHERE h.auction = b.auction AND h.price > 89000);
