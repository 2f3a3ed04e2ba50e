SELECT bidder, id FROM bids QUALIFY row_number() OVER (PARTITION BY bidder ORDER BY ts, id) = 1;
