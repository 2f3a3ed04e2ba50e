-- An aggregate over a windowed aggregate, joined with its input: the auctions with most bids of each period.
CREATE TABLE result (auction BIGINT, num BIGINT, starttime TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

CREATE VIEW counts AS
SELECT auction, count(*) AS num, window_start AS starttime, window_end AS endtime
FROM TABLE(HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND))
GROUP BY auction, window_start, window_end;

INSERT INTO result
SELECT A.auction, A.num, A.starttime
FROM counts AS A
JOIN (SELECT max(num) AS maxn, starttime, endtime FROM counts GROUP BY starttime, endtime) AS M
ON A.starttime = M.starttime AND A.endtime = M.endtime AND A.num >= M.maxn;
