SELECT n, count(*), sum(total)::BIGINT FROM (SELECT bidder, count(*) // 10 AS n, sum(price) AS total FROM bids GROUP BY bidder) GROUP BY n;
