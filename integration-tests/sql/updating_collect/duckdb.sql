WITH marks AS (SELECT auction % 3 AS k, max(price) % 5 AS mark FROM bids GROUP BY auction),
     counts AS (SELECT k, mark, count(*) AS n FROM marks GROUP BY k, mark)
SELECT k, '{' || string_agg(mark || '=' || n, ' ' ORDER BY mark) || '}', sum(n)::BIGINT,
       '{' || string_agg(mark || '=1', ' ' ORDER BY mark) || '}'
FROM counts GROUP BY k;
