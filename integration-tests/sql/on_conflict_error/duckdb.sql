SELECT max(id), auction, count(*) FROM bids GROUP BY auction;
