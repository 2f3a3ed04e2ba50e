INSERT INTO pairs SELECT k, score * 1e3 + 0.1E0, ts FROM clicks WHERE score < 1E-2;
