SELECT id, auction.seller, json_extract_string(attributes, '$.colour'), json_extract_string(attributes, '$.size.w'),
       auction.tags[2], len(auction.tags), reserve
FROM auctions WHERE auction.seller > 20;
