SELECT id, strftime(ts, '%H:%M:%S.%g'), 'none' FROM auctions WHERE id NOT IN (SELECT auction FROM bids WHERE price IS NOT NULL)
UNION ALL
SELECT id, strftime(ts, '%H:%M:%S.%g'), 'null' FROM auctions WHERE category NOT IN (SELECT channel FROM bids)
UNION ALL
SELECT id, strftime(ts, '%H:%M:%S.%g'), 'reserve' FROM auctions WHERE reserve NOT IN (SELECT bidder FROM bids WHERE bidder < 30);
