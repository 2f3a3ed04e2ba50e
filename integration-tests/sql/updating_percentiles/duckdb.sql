SELECT fee::VARCHAR, quantile_cont(bidder, 0.5), count(*) FROM bids GROUP BY 1;
