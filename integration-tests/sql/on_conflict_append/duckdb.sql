SELECT DISTINCT auction, auction % 7 FROM bids;
