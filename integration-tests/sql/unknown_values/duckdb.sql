SELECT id, price > 100 AND channel = 'apple', price > 100 OR channel = 'apple', NOT price > 100, (price > 100) IS TRUE,
       (channel = 'apple') IS NOT FALSE, price IS DISTINCT FROM 1, (price > 100) IS NULL
FROM bids WHERE price IS NULL OR price < 2000 OR channel IS NULL;
