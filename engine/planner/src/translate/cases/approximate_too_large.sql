INSERT INTO pairs SELECT k, 1e400, ts FROM clicks;
