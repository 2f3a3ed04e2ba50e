WITH marks AS (SELECT bidder, price % 2 AS mark, count(*) AS n FROM bids WHERE id % 40 = 0 GROUP BY 1, 2),
     bidders AS (
       SELECT bidder, '{' || coalesce(string_agg(mark || '=' || n, ' ' ORDER BY mark) FILTER (WHERE mark IS NOT NULL), '') || '}' AS marks,
              coalesce(sum(n) FILTER (WHERE mark IS NOT NULL), 0) AS elements
       FROM marks GROUP BY bidder)
SELECT marks, count(*), max(elements)::BIGINT FROM bidders GROUP BY marks;
