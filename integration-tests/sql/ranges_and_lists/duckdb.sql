SELECT id, price BETWEEN 10000 AND 50000, price BETWEEN 10000 AND 50000, channel NOT IN ('apple', 'baidu'), url LIKE '%/item/1_?%',
       channel NOT LIKE '%-%'
FROM bids WHERE id BETWEEN 100 AND 900 AND auction NOT BETWEEN 1000 AND 1002;
