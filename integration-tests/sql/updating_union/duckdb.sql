SELECT auction, channel FROM bids WHERE channel IS NOT NULL UNION SELECT auction.id, category FROM auctions;
