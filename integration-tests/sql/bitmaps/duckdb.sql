CREATE MACRO bitmap(l) AS '{' || array_to_string(list_sort(list_distinct(list_filter(l, lambda x: x IS NOT NULL))), ',') || '}';
CREATE TABLE fees AS
SELECT channel, bucket(ts, 60) AS w, fee, list_distinct(list(bidder)) AS bidders FROM bids GROUP BY ALL;
CREATE TABLE times AS
SELECT channel, w, bidder, count(*) AS times FROM (SELECT channel, w, unnest(bidders) AS bidder FROM fees) WHERE bidder IS NOT NULL GROUP BY ALL;
CREATE TABLE weighted AS
SELECT auction, bucket(ts, 60) AS w, quantile_cont(price, 0.3) AS p FROM bids, range(greatest(id % 4 - 1, 0)) GROUP BY ALL;
SELECT 'windows', b.auction::VARCHAR, bucket(ts, 60) AS w, bitmap(list(bidder)), nullif(count(DISTINCT id) FILTER (WHERE price > 50000), 0),
  nullif(count(DISTINCT bidder), 0), any_value(p)::DECIMAL(20, 3)
FROM bids AS b LEFT JOIN weighted AS q ON b.auction IS NOT DISTINCT FROM q.auction AND bucket(ts, 60) = q.w GROUP BY b.auction, bucket(ts, 60)
UNION ALL
SELECT 'fees', channel, w,
  (SELECT coalesce(bitmap(list(bidder)), '{}') FROM times AS t WHERE t.channel IS NOT DISTINCT FROM f.channel AND t.w = f.w
   AND t.times = (SELECT count(*) FROM fees AS o WHERE o.channel IS NOT DISTINCT FROM f.channel AND o.w = f.w)),
  (SELECT count(*) FROM times AS t WHERE t.channel IS NOT DISTINCT FROM f.channel AND t.w = f.w),
  (SELECT count(*) FROM times AS t WHERE t.channel IS NOT DISTINCT FROM f.channel AND t.w = f.w AND t.times % 2 = 1), NULL
FROM fees AS f GROUP BY channel, w;
