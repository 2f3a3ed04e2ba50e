SELECT bucket(ts - seconds(3), 10) + seconds(3), count(*) FROM bids GROUP BY 1;
