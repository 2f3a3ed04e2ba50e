SELECT id, auction FROM bids AS b WHERE price > 60000 AND NOT EXISTS (SELECT 1 FROM bids AS h WHERE h.auction = b.auction AND h.price > 89000);
