WITH sets AS (SELECT bucket(ts, 60) AS start, auction, count(channel) AS n FROM bids GROUP BY 1, 2)
SELECT start, sets.auction, channel, n
FROM sets LEFT JOIN bids ON bids.auction = sets.auction AND bucket(ts, 60) = start AND channel IS NOT NULL;
