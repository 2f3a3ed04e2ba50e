(SELECT channel, bidder, 'intersect' FROM bids WHERE price > 40000
 INTERSECT SELECT channel, bidder, 'intersect' FROM bids WHERE price < 5000)
UNION ALL
(SELECT channel, bidder, 'except' FROM bids WHERE price > 40000
 EXCEPT SELECT channel, bidder, 'except' FROM bids WHERE price < 5000);
