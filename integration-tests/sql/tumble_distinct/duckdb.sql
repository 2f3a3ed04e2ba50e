SELECT bucket(ts, 15), count(DISTINCT bidder), count(DISTINCT CASE WHEN channel IS NOT NULL THEN (auction, channel) END),
       count(DISTINCT bidder) FILTER (WHERE price > 50000), sum(DISTINCT bidder)::BIGINT
FROM bids GROUP BY 1;
