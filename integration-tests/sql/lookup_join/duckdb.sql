CREATE TABLE names AS SELECT * FROM read_csv('${DATA}/names.csv', header = false, columns = {'auction': 'BIGINT', 'name': 'VARCHAR'});
SELECT b.id, n.name FROM bids b LEFT JOIN names n ON b.auction = n.auction AND b.price > 20000;
