SELECT id, md5(url), sha256(channel), to_base64(encode(channel)), to_hex(id), bin(id), url FROM bids WHERE id % 9 = 4;
