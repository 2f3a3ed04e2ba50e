SELECT b.s, b.auction, n, m FROM (SELECT bucket(ts, 30) AS s, auction, count(*) AS n FROM bids GROUP BY 1, 2) AS b
JOIN (SELECT bucket(ts, 30) AS s, auction.id AS id, count(*) AS m FROM auctions GROUP BY 1, 2) AS a ON b.s = a.s AND b.auction = a.id;
