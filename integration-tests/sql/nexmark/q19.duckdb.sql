-- Which of several equal prices comes first is not determined; these events have no such rows among the ten.
SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS place FROM bid QUALIFY place <= 10;
