SELECT a.channel, count(*), sum(b.price)::BIGINT
FROM bids a JOIN bids b ON a.auction = b.auction AND a.bidder = b.bidder AND a.id < b.id
GROUP BY a.channel;
