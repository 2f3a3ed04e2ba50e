-- Views over views, with renamed columns, of which one is read twice.
CREATE VIEW known (k, who, cents) AS SELECT id, bidder, price FROM bids WHERE price IS NOT NULL;
CREATE VIEW euros AS SELECT k, who, cents / 100 AS euros FROM known;
CREATE TABLE result (k BIGINT, who BIGINT, v BIGINT, kind STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result SELECT k, who, euros, 'high' FROM euros WHERE euros > 800 UNION ALL SELECT k, who, euros, 'low' FROM euros WHERE euros < 20;
