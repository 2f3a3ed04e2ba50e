-- Many distinct counts with filters at once, over hopping windows.
CREATE TABLE result (
  channel STRING, wstart TIMESTAMP(3), total BIGINT, r1 BIGINT, r2 BIGINT, bidders BIGINT, b1 BIGINT, b2 BIGINT,
  auctions BIGINT, a1 BIGINT
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT channel, window_start, count(*), count(*) FILTER (WHERE price < 10000), count(*) FILTER (WHERE price >= 10000),
       count(DISTINCT bidder), count(DISTINCT bidder) FILTER (WHERE price < 10000),
       count(DISTINCT bidder) FILTER (WHERE price >= 10000), count(DISTINCT auction),
       count(DISTINCT auction) FILTER (WHERE price < 10000)
FROM TABLE(HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '30' SECOND))
GROUP BY channel, window_start, window_end;
