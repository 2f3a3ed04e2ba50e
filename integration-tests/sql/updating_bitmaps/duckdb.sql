CREATE MACRO bitmap(l) AS '{' || array_to_string(list_sort(list_distinct(list_filter(l, lambda x: x IS NOT NULL))), ' ') || '}';
CREATE TABLE bidders AS
SELECT bidder, count(*) // 10 AS n, sum(price) AS total, list_distinct(list(auction)) AS auctions FROM bids GROUP BY bidder;
CREATE TABLE times AS SELECT n, auction, count(*) AS times FROM (SELECT n, unnest(auctions) AS auction FROM bidders) GROUP BY ALL;
SELECT n, bitmap(list(bidder)), count(DISTINCT bidder), quantile_cont(total, 0.5),
  (SELECT quantile_cont(o.total, 0.5) FROM bidders AS o, range(o.bidder) WHERE o.n = b.n),
  median(total),
  (SELECT coalesce(bitmap(list(auction)), '{}') FROM times WHERE times.n = b.n AND times.times = (SELECT count(*) FROM bidders AS o WHERE o.n = b.n)),
  (SELECT count(*) FROM times WHERE times.n = b.n),
  (SELECT count(*) FROM times WHERE times.n = b.n AND times.times % 2 = 1)
FROM bidders AS b GROUP BY n;
