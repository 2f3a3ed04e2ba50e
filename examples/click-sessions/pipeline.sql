-- Sessions of clicks: a session of a user ends when the user has not clicked for 30 minutes of event time.
SET 'pipeline.name' = 'click-sessions';
SET 'parallelism.default' = '2';

CREATE TABLE clicks (
  user_id STRING,
  page STRING,
  clicked TIMESTAMP(3),
  WATERMARK FOR clicked AS clicked - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/click-sessions/data/clicks',
  'format' = 'json'
);

CREATE TABLE sessions (
  user_id STRING, session_start TIMESTAMP(3), session_end TIMESTAMP(3), clicks BIGINT, carts BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/click-sessions/output/sessions',
  'format' = 'csv'
);

INSERT INTO sessions
SELECT user_id, window_start, window_end, count(*), count(*) FILTER (WHERE page = '/cart')
FROM TABLE(SESSION(TABLE clicks PARTITION BY user_id, DESCRIPTOR(clicked), INTERVAL '30' MINUTE))
GROUP BY user_id, window_start, window_end;
