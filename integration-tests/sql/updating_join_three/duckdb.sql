SELECT a.category, count(*), max(b.price), count(DISTINCT c.bidder)
FROM bids b JOIN auctions a ON b.auction = a.id
LEFT JOIN (SELECT bidder, count(*) AS n FROM bids WHERE price > 50000 GROUP BY bidder) c ON c.bidder = b.bidder AND c.n > 30
GROUP BY a.category;
