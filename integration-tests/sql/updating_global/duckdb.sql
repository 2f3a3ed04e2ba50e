SELECT count(*), sum(price)::BIGINT, max(price), count(DISTINCT bidder), (sum(price) FILTER (WHERE bidder < 0))::BIGINT FROM bids;
