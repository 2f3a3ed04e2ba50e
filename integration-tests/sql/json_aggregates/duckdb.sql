SELECT auction, bucket(ts, 60),
       '{' || string_agg('"' || id || '":' || coalesce(price::VARCHAR, 'null'), ',' ORDER BY id::VARCHAR) || '}',
       '{' || coalesce(string_agg('"' || id || '":' || to_json(channel)::VARCHAR, ',' ORDER BY id::VARCHAR)
                       FILTER (WHERE id < 300 AND channel IS NOT NULL), '') || '}',
       '[' || coalesce(string_agg(auction::VARCHAR, ',') FILTER (WHERE price > 50000), '') || ']',
       '{' || string_agg('"' || id || '":{"a":[' || auction || ',' || coalesce(to_json(channel)::VARCHAR, 'null') || '],"p":'
                         || coalesce(price::VARCHAR, 'null') || '}', ',' ORDER BY id::VARCHAR) || '}'
FROM bids GROUP BY 1, 2;
