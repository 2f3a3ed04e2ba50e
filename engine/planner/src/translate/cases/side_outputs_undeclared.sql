INSERT INTO names SELECT 1, error FROM clicks.dead_letters;
