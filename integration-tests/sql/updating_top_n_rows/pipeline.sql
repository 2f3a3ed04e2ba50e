-- The second to the fourth lowest bid of each channel and auction, without their rank.
-- key columns: 4
CREATE TABLE result (channel STRING, auction BIGINT, id BIGINT, price BIGINT) WITH ('connector' = 'print');

INSERT INTO result
SELECT channel, auction, id, price FROM bids
QUALIFY ROW_NUMBER() OVER (PARTITION BY channel, auction ORDER BY price NULLS FIRST, id) BETWEEN 2 AND 4;
