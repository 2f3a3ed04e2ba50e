SELECT auction, bidder, price, dateTime, extra FROM bid
QUALIFY price = max(price) OVER (PARTITION BY bucket(dateTime, 10));
