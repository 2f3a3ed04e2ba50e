SELECT w, bidder, n FROM (SELECT bidder, bucket(ts, 20) AS w, count(*) AS n FROM bids GROUP BY 1, 2)
QUALIFY row_number() OVER (PARTITION BY w ORDER BY n DESC, bidder) <= 2;
