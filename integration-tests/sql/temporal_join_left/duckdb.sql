CREATE TABLE factors (channel VARCHAR, factor DECIMAL(4, 2), since TIMESTAMP);
-- A version without a factor is a deletion.
INSERT INTO factors VALUES
  ('apple', 1.00, TIMESTAMP '2026-01-01 08:00:01.000'),
  ('google', 1.10, TIMESTAMP '2026-01-01 08:00:03.000'),
  ('baidu', 0.90, TIMESTAMP '2026-01-01 08:00:05.000'),
  ('apple', 1.25, TIMESTAMP '2026-01-01 08:01:00.000'),
  ('Kanal-Ö', 2.00, TIMESTAMP '2026-01-01 08:01:20.000'),
  ('google', NULL, TIMESTAMP '2026-01-01 08:01:40.000'),
  ('baidu', 0.95, TIMESTAMP '2026-01-01 08:02:00.000'),
  ('apple', 1.30, TIMESTAMP '2026-01-01 08:03:20.000'),
  ('google', 1.15, TIMESTAMP '2026-01-01 08:04:00.000'),
  ('Kanal-Ö', 2.50, TIMESTAMP '2026-01-01 08:05:00.000'),
  ('facebook', 0.50, TIMESTAMP '2026-01-01 08:05:10.000'),
  ('baidu', 0.85, TIMESTAMP '2026-01-01 08:06:40.000');
SELECT b.id, f.factor, CASE WHEN f.factor IS NULL THEN NULL ELSE f.since END FROM bids b ASOF LEFT JOIN factors f ON b.channel = f.channel AND b.ts >= f.since;
