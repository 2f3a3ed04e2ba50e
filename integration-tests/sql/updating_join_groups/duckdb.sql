SELECT b.id, b.auction, b.price, g.highest, g.n FROM bids AS b JOIN (
  SELECT auction, max(price) AS highest, count(*) AS n FROM bids GROUP BY auction) AS g ON b.auction = g.auction WHERE b.price = g.highest;
