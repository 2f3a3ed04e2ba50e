CREATE TABLE a (x INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector'='datagen');
CREATE TABLE b (x INT) WITH ('connector'='blackhole');
INSERT INTO b SELECT DISTINCT x FROM a;
