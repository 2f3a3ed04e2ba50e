SELECT DISTINCT P.id, P.name, bucket(P.dateTime, 10) FROM person P, auction A
WHERE P.id = A.seller AND bucket(P.dateTime, 10) = bucket(A.dateTime, 10);
