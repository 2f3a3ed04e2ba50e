-- Tables declared like another, with computed columns and other options.
CREATE TABLE priced (euros AS price / 100, minute_ AS FLOOR(ts TO MINUTE)) WITH ('csv.ignore-parse-errors' = 'true') LIKE bids;
CREATE TABLE lines (id BIGINT, euros BIGINT, minute_ TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'x');
CREATE TABLE result WITH ('path' = '${OUT}') LIKE lines (OVERWRITING OPTIONS);

INSERT INTO result SELECT id, euros, minute_ FROM priced WHERE MOD(id, 4) = 0;
