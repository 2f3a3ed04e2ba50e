SELECT 'all', count(*), sum(price)::BIGINT FROM bids;
