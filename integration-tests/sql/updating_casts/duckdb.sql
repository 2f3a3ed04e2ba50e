SELECT fee::VARCHAR, trunc(fee)::INT::VARCHAR, CASE WHEN price > 45000 THEN 'large' ELSE 'small' END, count(*) FROM bids GROUP BY 1, 2, 3;
