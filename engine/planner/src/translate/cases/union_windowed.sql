CREATE VIEW both_streams AS SELECT k, ts FROM clicks UNION ALL SELECT k, at AS ts FROM orders;
INSERT INTO counts SELECT k, count(*), window_start FROM TABLE(TUMBLE(TABLE both_streams, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
