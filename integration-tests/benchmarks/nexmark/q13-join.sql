-- Bounded side input, with a regular join. As published, the side input is looked up (FOR SYSTEM_TIME AS OF processing
-- time), which Flink's connector for files cannot do. ${SIDE_INPUT} is a CSV file of the numbers 0 to 9999, twice a line.
CREATE TABLE side_input (key BIGINT, `value` VARCHAR)
WITH ('connector' = 'filesystem', 'path' = '${SIDE_INPUT}', 'format' = 'csv');

CREATE TABLE sink (auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), `value` VARCHAR)
WITH ('connector' = 'blackhole');

INSERT INTO sink
SELECT B.auction, B.bidder, B.price, B.`dateTime`, S.`value`
FROM bid B JOIN side_input S ON MOD(B.auction, 10000) = S.key;
