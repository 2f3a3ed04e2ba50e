SELECT n, count(*), min(total), max(total), count(DISTINCT channel), sum(total)::BIGINT
FROM (SELECT bidder, count(*) AS n, sum(price)::BIGINT AS total, min(channel) AS channel FROM bids GROUP BY bidder)
GROUP BY n;
