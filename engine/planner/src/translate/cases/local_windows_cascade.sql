SET 'table.local-time-zone' = 'Europe/Berlin';
CREATE TABLE moments (k BIGINT, at TIMESTAMP_LTZ(3), p AS PROCTIME(), WATERMARK FOR at AS at - INTERVAL '5' SECOND) WITH ('connector' = 'kafka', 'topic' = 'm', 'properties.bootstrap.servers' = 'b:1', 'format' = 'json');
CREATE TABLE days (k BIGINT, n BIGINT, s TIMESTAMP(3), e TIMESTAMP(3), t TIMESTAMP_LTZ(3)) WITH ('connector' = 'blackhole');
CREATE VIEW hours AS SELECT k, count(*) AS n, window_time AS h FROM TABLE(TUMBLE(TABLE moments, DESCRIPTOR(at), INTERVAL '1' HOUR)) GROUP BY k, window_start, window_end, window_time;
INSERT INTO days SELECT k, sum(n), window_start, window_end, window_time FROM TABLE(TUMBLE(TABLE hours, DESCRIPTOR(h), INTERVAL '1' DAY)) GROUP BY k, window_start, window_end, window_time;
INSERT INTO days SELECT k, 1, window_start, window_end, window_time FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY at DESC) AS rn FROM TABLE(TUMBLE(TABLE moments, DESCRIPTOR(at), INTERVAL '1' DAY))) WHERE rn = 1;
