SELECT bidder, count(DISTINCT CASE WHEN channel IS NOT NULL THEN (auction, channel) END), sum(DISTINCT auction)::BIGINT, count(DISTINCT channel)
FROM bids GROUP BY 1;
