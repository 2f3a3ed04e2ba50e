SELECT bucket(ts, 10), auction, sum(fee + 1), 0, count(*), count(*) FILTER (fee BETWEEN -0.01 AND 0.01), count(*)::DECIMAL(38, 0),
       (count(*) > 1)::INT
FROM bids WHERE id > 0 GROUP BY 1, 2;
