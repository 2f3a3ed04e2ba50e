CREATE TABLE baskets (
  id BIGINT, items ARRAY<ROW<name STRING, cents BIGINT>>, labels MAP<STRING, STRING>, words ARRAY<STRING>, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts
) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json');
CREATE TABLE sold (id BIGINT, name STRING, place BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO sold SELECT id, i.name, i.cents FROM baskets CROSS JOIN UNNEST(items) AS i WHERE cents > 5 AND id > 3;
INSERT INTO sold SELECT id, word, place FROM baskets LEFT JOIN UNNEST(ARRAY_REVERSE(words)) WITH ORDINALITY AS t(word, place) ON TRUE;
INSERT INTO sold SELECT COUNT(*), name, SUM(cents) FROM (
  SELECT name, cents, ts FROM baskets, UNNEST(items) AS i, UNNEST(labels) AS l(k, v) WHERE l.v = name
) GROUP BY name;
CREATE VIEW words AS SELECT word, ts FROM baskets CROSS JOIN UNNEST(words) AS word;
INSERT INTO sold SELECT COUNT(*), word, 0 FROM TABLE(TUMBLE(TABLE words, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY word, window_start, window_end;
