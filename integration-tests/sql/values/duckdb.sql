SELECT n * 2, upper(label), price::DECIMAL(6, 2), n > 1
FROM (VALUES (1, 'one', 1.5), (2, NULL, 20.25), (NULL, 'café', NULL), (1 + 3, 'a' || 'b', 0.01)) AS t(n, label, price)
UNION ALL
SELECT 7, 'single row', 0.5::DECIMAL(6, 2), NULL::BOOLEAN
UNION ALL
SELECT id, channel, fee::DECIMAL(6, 2), price > 50000 FROM bids WHERE auction = 1001;
