SELECT DISTINCT bucket(ts, 10), channel FROM bids;
