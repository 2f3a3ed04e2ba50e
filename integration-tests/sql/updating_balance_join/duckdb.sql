SELECT auction, 0, count(*), (SELECT count(*) FROM (SELECT DISTINCT b.bidder FROM bids b WHERE b.auction = bids.auction))
FROM bids WHERE auction IS NOT NULL GROUP BY auction;
