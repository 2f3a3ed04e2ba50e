SELECT id, length(channel), upper(channel), lower(upper(channel)), reverse(channel), repeat(channel, 2),
       lpad(channel, 8, '*'), rpad(channel, 5, '-'), trim(channel, 'a')
FROM bids WHERE id % 4 = 1;
