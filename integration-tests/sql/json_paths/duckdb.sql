SELECT reserve, attributes ->> '$.colour', (attributes ->> '$.size.w')::INT, 'none', json_extract(attributes, '$.size')::VARCHAR, true, false,
       true
FROM auctions WHERE reserve > 300;
