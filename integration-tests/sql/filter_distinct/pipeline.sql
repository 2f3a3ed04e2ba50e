-- FILTER and DISTINCT, alone and together; HAVING.
CREATE TABLE result (
  channel STRING, wstart TIMESTAMP(3), n BIGINT, cheap BIGINT, bidders BIGINT, cheap_bidders BIGINT, prices BIGINT
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT channel, window_start, count(*), count(*) FILTER (WHERE price < 20000), count(DISTINCT bidder),
       count(DISTINCT bidder) FILTER (WHERE price < 20000), sum(DISTINCT price)
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '30' SECOND))
GROUP BY channel, window_start, window_end
HAVING count(*) > 3;
