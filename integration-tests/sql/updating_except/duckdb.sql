SELECT auction FROM bids EXCEPT SELECT auction FROM bids WHERE price > 85000;
