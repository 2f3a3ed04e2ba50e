-- EXISTS within the window.
CREATE TABLE result (id BIGINT, auction BIGINT) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT B.id, B.auction
FROM (SELECT * FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND))) B
WHERE EXISTS (
  SELECT 1 FROM (SELECT * FROM TABLE(TUMBLE(TABLE auctions, DESCRIPTOR(ts), INTERVAL '5' SECOND))) A
  WHERE A.window_start = B.window_start AND A.window_end = B.window_end AND A.id = B.auction);
