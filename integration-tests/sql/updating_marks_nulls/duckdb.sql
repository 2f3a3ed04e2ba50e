WITH queries AS (
SELECT id, ts, 'or not in', reserve::VARCHAR FROM auctions
WHERE reserve NOT IN (SELECT bidder FROM bids WHERE price > 70000) OR category NOT IN (SELECT channel FROM bids)
UNION ALL
SELECT id, ts, 'in', upper((reserve IN (SELECT bidder FROM bids))::VARCHAR) FROM auctions
UNION ALL
SELECT id, ts, 'in nulls', upper((reserve * 100 IN (SELECT price FROM bids))::VARCHAR) FROM auctions
UNION ALL
SELECT id, ts, 'in nothing', upper((reserve NOT IN (SELECT price FROM bids WHERE price < 0))::VARCHAR) FROM auctions)
SELECT COLUMNS(*) FROM (SELECT id, strftime(ts, '%H:%M:%S.%g'), * EXCLUDE (id, ts) FROM queries);
