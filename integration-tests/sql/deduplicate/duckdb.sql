SELECT bidder, id, ts FROM bids QUALIFY row_number() OVER (PARTITION BY bucket(ts, 15), bidder ORDER BY ts, id) = 1;
