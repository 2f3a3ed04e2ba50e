-- A sink that takes its columns from a query.
CREATE TABLE result WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv')
AS SELECT id, UPPER(channel) AS channel, price / 100 AS euros FROM bids WHERE MOD(id, 3) = 1;
