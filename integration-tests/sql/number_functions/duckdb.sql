SELECT id, abs(50000 - price), price % 97, sign(price - 50000), price // 7, (price - 50000) % 11, ceil(fee)::BIGINT, floor(fee)::BIGINT,
       round(fee, 1)::DECIMAL(8, 1), trunc(fee * 10)::DECIMAL(8, 0) / 10.0::DECIMAL(8, 1),
       CASE WHEN price IS NOT NULL THEN greatest(price, 40000, id) END, CASE WHEN price IS NOT NULL THEN least(price, 40000, id) END
FROM bids WHERE id % 4 = 3;
