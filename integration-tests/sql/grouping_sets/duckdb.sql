SELECT w, channel, auction, count(*) FROM (SELECT *, bucket(ts, 60) AS w FROM bids)
GROUP BY GROUPING SETS ((w, channel), (w, auction), (w));
