-- The partition columns are not in the files.
SELECT auction, bidder, price, dateTime, extra FROM bid;
