-- Several inserts into one table as a statement set.
CREATE TABLE result (kind STRING, id BIGINT, v BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

EXECUTE STATEMENT SET BEGIN
INSERT INTO result SELECT 'bid', id, price FROM bids WHERE price > 80000;
INSERT INTO result SELECT 'auction', auction.id, reserve FROM auctions WHERE reserve > 1500;
END;
