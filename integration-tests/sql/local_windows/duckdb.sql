WITH moments AS (
  SELECT price, timezone('Europe/Berlin', timezone('UTC',
    TIMESTAMP '2026-10-24 18:00:00' + 900 * (ts - TIMESTAMP '2026-01-01 08:00:00'))) AS moment FROM bids)
SELECT 'day', date_trunc('day', moment), date_trunc('day', moment) + to_days(1),
       strftime(date_trunc('day', moment) + to_days(1) - to_milliseconds(1), '%Y-%m-%d %H:%M:%S.%g'), count(*), sum(price)
FROM moments GROUP BY ALL
UNION ALL
SELECT strftime(max(moment), '%a'), date_trunc('hour', moment), date_trunc('hour', moment) + to_hours(1),
       strftime(date_trunc('hour', max(moment)), '%Y-%m-%d %H:%M:%S.%g'), count(*), sum(price)
FROM moments GROUP BY date_trunc('hour', moment);
