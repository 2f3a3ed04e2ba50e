SELECT category, (sum(final) // count(*))::BIGINT FROM (
  SELECT A.id, A.category, max(B.price) AS final FROM auction A, bid B
  WHERE A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires GROUP BY ALL)
GROUP BY category;
