SELECT B.auction, B.bidder, B.price, B.dateTime, B.extra FROM bid B, (
  SELECT max(price) AS maxprice, bucket(dateTime, 10) + to_seconds(10) AS window_end FROM bid GROUP BY 2)
WHERE B.price = maxprice AND B.dateTime BETWEEN window_end - to_seconds(10) AND window_end;
