-- Extremes of text and times, and booleans of all rows.
-- key columns: 1
CREATE TABLE result (bidder BIGINT, low STRING, high STRING, every_ BOOLEAN, some_ BOOLEAN) WITH ('connector' = 'print');

INSERT INTO result
SELECT bidder, MIN(channel), MAX(channel), BOOL_AND(price > 10), BOOL_OR(price > 89990) FROM bids GROUP BY bidder;
