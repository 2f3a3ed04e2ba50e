SELECT auction, bidder, price, dateTime, value FROM bid, side_input WHERE auction % 10000 = key;
