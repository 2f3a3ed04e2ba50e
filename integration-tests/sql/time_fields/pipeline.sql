-- Fields of times.
CREATE TABLE result (id BIGINT, q BIGINT, mo BIGINT, w BIGINT, doy BIGINT, dom BIGINT, dow BIGINT, ms BIGINT, ep BIGINT, dec_ BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT id, QUARTER(t), MONTH(t), WEEK(t), DAYOFYEAR(t), DAYOFMONTH(t), DAYOFWEEK(t), EXTRACT(MILLISECOND FROM t), EXTRACT(EPOCH FROM t),
       EXTRACT(DECADE FROM t)
FROM (SELECT id, TIMESTAMPADD(DAY, id, ts) AS t FROM bids) WHERE MOD(id, 6) = 5;
