-- The three highest bids of each channel so far, with their rank.
-- key columns: 2
CREATE TABLE result (channel STRING, rn BIGINT, id BIGINT, price BIGINT, PRIMARY KEY (channel, rn) NOT ENFORCED)
WITH ('connector' = 'print');

INSERT INTO result
SELECT channel, rn, id, price FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY channel ORDER BY price DESC NULLS LAST, id) AS rn FROM bids)
WHERE rn <= 3;
