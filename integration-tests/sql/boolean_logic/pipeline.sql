-- What the left side of AND and OR decides; arguments that fail outside of their FILTER; distinct pairs; a SUM beside an AVG.
CREATE TABLE result (
  wstart TIMESTAMP(3), n BIGINT, quotients BIGINT, pairs BIGINT, total BIGINT, mean INT, fee DECIMAL(12, 6)
) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

CREATE VIEW small AS
SELECT *, CAST(bidder % 3 AS INT) AS rest, CAST(price % 1000 AS INT) AS digits FROM bids;

INSERT INTO result
SELECT window_start, count(*), sum(1000 / rest) FILTER (WHERE rest <> 0), count(DISTINCT bidder, channel),
       sum(digits), avg(digits), avg(fee)
FROM TABLE(TUMBLE(TABLE small, DESCRIPTOR(ts), INTERVAL '30' SECOND))
WHERE (rest <> 0 AND 10 / rest > 4 AND price IS DISTINCT FROM 7) OR (rest = 0 AND channel <> '')
GROUP BY window_start, window_end;
