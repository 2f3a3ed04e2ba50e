SELECT reserve, len(tags), list_contains(tags, 'cars'), coalesce(list_position(tags, 'wine'), 0), array_to_string(tags, '+'),
       array_to_string(list_sort(tags, 'DESC'), ' '), array_to_string(tags || ['old', category], ' '), category, list_max(tags), category
FROM (SELECT reserve, category, auction.tags AS tags FROM auctions);
