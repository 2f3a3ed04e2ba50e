SELECT DISTINCT 'distinct', bidder, channel FROM bids
UNION ALL
SELECT * FROM (
  SELECT 'union', bidder, channel FROM bids WHERE price < 40000 UNION SELECT 'union', auction, channel FROM bids WHERE price > 60000
);
