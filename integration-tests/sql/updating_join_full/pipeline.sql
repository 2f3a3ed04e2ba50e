-- A full join of append-only rows, with a condition besides the key.
-- key columns: 3
CREATE TABLE result (bid BIGINT, auction BIGINT, time STRING, price BIGINT, reserve BIGINT)
WITH ('connector' = 'print');

INSERT INTO result
SELECT b.id, a.id, DATE_FORMAT(a.ts, 'HH:mm:ss.SSS'), b.price, a.reserve
FROM bids b FULL JOIN auctions a ON b.auction = a.id AND b.price * 10 < a.reserve;
