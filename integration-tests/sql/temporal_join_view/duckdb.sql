SELECT id, CASE WHEN m THEN category END, CASE WHEN m THEN reserve END FROM (
  SELECT b.id, a.category, a.reserve, a.category = CASE WHEN b.bidder % 3 = 0 THEN 'art' ELSE 'cars' END AND a.reserve < b.price AS m
  FROM bids b ASOF LEFT JOIN auctions a ON b.auction = a.id AND b.ts >= a.ts);
