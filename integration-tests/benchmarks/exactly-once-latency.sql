-- Each row goes through as it is, but for a little work: what is measured is the way, not the query.
CREATE TABLE events (id BIGINT, sent_us BIGINT, word VARCHAR)
WITH ('connector' = 'kafka', 'topic' = 'sent', 'properties.bootstrap.servers' = '${BROKERS}', 'format' = 'json',
  'scan.startup.mode' = 'earliest-offset');

CREATE TABLE results (id BIGINT, sent_us BIGINT, word VARCHAR)
WITH ('connector' = 'kafka', 'topic' = '${OUT}', 'properties.bootstrap.servers' = '${BROKERS}', 'format' = 'json',
  'sink.delivery-guarantee' = '${DELIVERY}');

INSERT INTO results SELECT id, sent_us, UPPER(word) FROM events WHERE id >= 0;
