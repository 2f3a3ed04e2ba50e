SELECT id, auction, price FROM bids
WHERE price > 70000 AND auction IN (SELECT auction FROM bids GROUP BY auction HAVING count(*) > 120);
