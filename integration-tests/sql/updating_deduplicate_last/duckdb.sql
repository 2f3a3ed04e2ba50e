SELECT bidder, id, price FROM bids QUALIFY row_number() OVER (PARTITION BY bidder ORDER BY ts DESC, rowid DESC) = 1;
