INSERT INTO names SELECT doubled, address.city FROM clicks;
