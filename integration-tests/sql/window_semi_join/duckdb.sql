SELECT B.id, B.auction FROM bids B
WHERE EXISTS (SELECT 1 FROM auctions A WHERE bucket(A.ts, 5) = bucket(B.ts, 5) AND A.id = B.auction);
