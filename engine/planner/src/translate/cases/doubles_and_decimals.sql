INSERT INTO pairs SELECT k, score, ts FROM clicks WHERE score > 0.5 AND score <> 7.25 AND (score BETWEEN 1.5 AND k OR score IN (2.5, 3e0));
