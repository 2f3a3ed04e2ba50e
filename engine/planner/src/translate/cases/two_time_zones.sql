SET 'table.local-time-zone' = 'Europe/Berlin';
SET 'table.local-time-zone' = 'Europe/Berlin';
SET 'table.local-time-zone' = 'Asia/Tokyo';
SET 'table.local-time-zone' = 'Europe/Nowhere';
SET 'table.local-time-zone' = 'default';
INSERT INTO counts SELECT k, count(*), window_start FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
