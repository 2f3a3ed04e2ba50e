SET 'table.local-time-zone' = 'Asia/Kolkata';
CREATE TABLE moments (k BIGINT, at TIMESTAMP_LTZ(3), p AS PROCTIME(), WATERMARK FOR at AS at - INTERVAL '5' SECOND) WITH ('connector' = 'kafka', 'topic' = 'm', 'properties.bootstrap.servers' = 'b:1', 'format' = 'json');
CREATE TABLE days (k BIGINT, n BIGINT, s TIMESTAMP(3), e TIMESTAMP(3), t TIMESTAMP_LTZ(3)) WITH ('connector' = 'blackhole');
INSERT INTO days SELECT k, count(*), window_start, window_end, NOW() FROM TABLE(TUMBLE(TABLE moments, DESCRIPTOR(p), INTERVAL '1' DAY)) GROUP BY k, window_start, window_end;
