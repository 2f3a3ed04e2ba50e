SELECT id, '{"auction":' || auction || ',"price":' || coalesce(price::VARCHAR, 'null') || '}',
       coalesce('{"price":' || price || '}', '{}'), '[' || auction || ',' || coalesce('"' || channel || '"', 'null') || ']', '"' || channel || '"'
FROM bids WHERE id % 6 = 1;
