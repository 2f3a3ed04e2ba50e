-- First and last values of a window, by an order.
CREATE TABLE result (wstart TIMESTAMP(3), first_ BIGINT, last_ BIGINT, cheapest BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'csv');

INSERT INTO result
SELECT window_start, FIRST_VALUE(id ORDER BY id), LAST_VALUE(id ORDER BY id), FIRST_VALUE(id ORDER BY COALESCE(price, 99999999), id)
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '12' SECOND)) GROUP BY window_start, window_end;
