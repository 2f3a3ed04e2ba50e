SELECT bucket(ts, 10), channel, count(*), min(id)
FROM (SELECT * FROM bids QUALIFY row_number() OVER (PARTITION BY bidder ORDER BY rowid) <= 4)
GROUP BY bucket(ts, 10), channel;
