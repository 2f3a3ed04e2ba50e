SELECT B.id, B.auction, B.price, A.category, A.reserve FROM bids B INNER JOIN auctions A
ON bucket(B.ts, 5) = bucket(A.ts, 5) AND B.auction = A.id AND B.price > A.reserve;
