-- INNER join of two streams, windowed alike, with a further condition.
CREATE TABLE result (id BIGINT, auction BIGINT, price BIGINT, category STRING, reserve BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT B.id, B.auction, B.price, A.category, A.reserve
FROM (SELECT * FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND))) B
INNER JOIN (SELECT * FROM TABLE(TUMBLE(TABLE auctions, DESCRIPTOR(ts), INTERVAL '5' SECOND))) A
ON B.window_start = A.window_start AND B.window_end = A.window_end AND B.auction = A.id AND B.price > A.reserve;
