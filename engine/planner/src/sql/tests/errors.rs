//! Errors of invalid scripts: messages and positions.

use super::*;

#[test]
fn all_mistakes_are_reported_with_their_places() {
    check(
        "INSERT INTO out1 SELECT prise, ts FROM bid;
INSERT INTO out2 SELECT price, ts FROM bids;
INSERT INTO out1 SELECT REGEXP_EXTRAKT(url, 'x'), FOO(ts) FROM bid ORDER BY price LIMIT 3;
INSERT INTO out1 SELECT price FROM bid;
INSERT INTO out1 SELECT url, ts FROM bid;
SELEC x;
INSERT INTO out1 SELECT price, FROM bid;
CREATE TABLE t (a BIGNT) WITH ('connector' = 'print');
CREATE TABLE u (a BIGINT, b AS c + 1, WATERMARK FOR a AS a) WITH ('connector' = 'print');
INSERT INTO out1 SELECT nested.x, nested.b.c FROM bid;
INSERT INTO out1 SELECT sum(price), window_start FROM TABLE(TUMBL(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND));
INSERT INTO out1 SELECT price, ts FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(price), INTERVAL '10' SECOND));
INSERT INTO out1 SELECT url + 1, ts FROM bid;
INSERT INTO out1 SELECT price, ts FROM bid GROUP BY price;",
        expect![[r#"
            7:25: unknown column `prise`; did you mean `price`?
            8:13: unknown table `out2`; did you mean `out1`?; declare it with CREATE TABLE
            8:40: unknown table or view `bids`; did you mean `bid`?
            9:25: unknown function `REGEXP_EXTRAKT`; did you mean `REGEXP_EXTRACT`?
            9:51: unknown function `FOO`
            10:1: the query has 1 columns (price), but table `out1` takes 2 (n, t)
            11:1: column `n` of table `out1` is BIGINT, but the query's column 1 (`url`) is STRING: write CAST(url AS BIGINT)
            12:1: expected CREATE TABLE, CREATE VIEW, INSERT INTO, SELECT, SET, EXPLAIN or EXECUTE STATEMENT SET, found: SELEC
            13:37: expected an expression, found: FROM
            14:19: unknown type `BIGNT`; did you mean `BIGINT`?
            15:32: unknown column `c`; did you mean `a`?
            16:32: unknown field `x` of a ROW
            17:61: unknown function `TUMBL`; did you mean `TUMBLE`?
            18:46: `price` is of type BIGINT: a window needs a TIMESTAMP column with a watermark, or a PROCTIME() column
            19:25: + does not take STRING and BIGINT: convert one of them with CAST
            20:32: column `bid.ts` must be in GROUP BY, or inside an aggregate such as MAX(bid.ts)
        "#]],
    );
}

#[test]
fn set_operations_have_the_words_of_flink() {
    check(
        "INSERT INTO out1 SELECT price, ts FROM bid MINUS SELECT price, ts FROM bid;
INSERT INTO out1 SELECT price, ts FROM bid EXCEPT BY NAME SELECT price, ts FROM bid;",
        expect![[r#"
            7:50: MINUS is not supported: write EXCEPT
            8:59: EXCEPT BY NAME is not supported: combine the rows with EXCEPT or EXCEPT ALL
        "#]],
    );
}

#[test]
fn subqueries_that_are_no_joins_are_refused() {
    check(
        "INSERT INTO out1 SELECT price, ts FROM bid AS a WHERE EXISTS (SELECT MAX(price) FROM bid AS b WHERE b.auction = a.auction HAVING COUNT(*) > 2);
INSERT INTO out1 SELECT price, ts FROM bid AS a WHERE price NOT IN (SELECT MAX(price) FROM bid AS b WHERE b.auction = a.auction);
INSERT INTO out1 SELECT auction, ts FROM bid FULL JOIN (SELECT price FROM bid) AS b USING (auction);",
        expect![[r#"
            9:42: unknown column `auction`; there are `price`
        "#]],
    );
}

#[test]
fn misplaced_unnests_are_refused() {
    check(
        "INSERT INTO out1 SELECT price, ts FROM bid CROSS JOIN UNNEST(price) AS t(x);
INSERT INTO out1 SELECT price, ts FROM bid CROSS JOIN UNNEST(ARRAY[price], ARRAY[1]) AS t(x, y);
INSERT INTO out1 SELECT price, ts FROM bid CROSS JOIN UNNEST(ARRAY[price]) AS t(x, y);
INSERT INTO out1 SELECT price, ts FROM bid CROSS JOIN UNNEST(ARRAY[price]) WITH ORDINALITY AS t(x, x);
INSERT INTO out1 SELECT price, ts FROM bid LEFT JOIN UNNEST(ARRAY[price]) AS t(x) ON x > 3;
INSERT INTO out1 SELECT price, ts FROM bid RIGHT JOIN UNNEST(ARRAY[price]) AS t(x) ON TRUE;
INSERT INTO out1 SELECT price, ts FROM bid JOIN UNNEST(ARRAY[price]) AS price USING (price);
INSERT INTO out1 SELECT price, ts FROM bid WHERE EXISTS (SELECT 1 FROM UNNEST(ARRAY[price]) AS t(x) WHERE x > 3);
INSERT INTO out1 SELECT UNNEST(ARRAY[price]), ts FROM bid;
INSERT INTO out1 SELECT price, ts FROM bid CROSS JOIN UNNEST(ARRAY[prize]) AS t(x);",
        expect![[r#"
            7:40: UNNEST takes an ARRAY, a MAP or a MULTISET, not a value of type BIGINT
            8:40: UNNEST takes one ARRAY, MAP or MULTISET: write CROSS JOIN UNNEST(...) for each
            9:40: `t` names 2 columns, but UNNEST has 1: item
            10:40: `t` names two columns `x`
            11:40: LEFT JOIN UNNEST(...) takes the condition ON TRUE only: filter the array or map itself, or write CROSS JOIN
            12:40: UNNEST can be the right side of a CROSS JOIN, an INNER JOIN or a LEFT JOIN only
            13:40: USING and NATURAL are not supported in a join with UNNEST: write CROSS JOIN and WHERE
            14:85: unknown column `price`
            15:25: UNNEST is a table: write FROM t CROSS JOIN UNNEST(t.a) AS e(x)
            16:68: unknown column `prize`; did you mean `price`?
        "#]],
    );
}

#[test]
fn what_a_stream_cannot_answer_is_refused() {
    check(
        "INSERT INTO out1 SELECT price, ts FROM bid INTERSECT ALL SELECT price, ts FROM bid;
INSERT INTO out1 SELECT b.price, b.ts FROM bid AS b JOIN bid FOR SYSTEM_TIME AS OF b.ts AS c ON b.auction = c.auction;
INSERT INTO out1 SELECT count(*), TUMBLE_START(ts, INTERVAL '1' MINUTE) FROM bid GROUP BY TUMBLE(ts, INTERVAL '2' MINUTE);
INSERT INTO out1 SELECT count(*), TUMBLE_START(ts, INTERVAL '1' MINUTE) FROM bid;
INSERT INTO out1 SELECT count(*), max(ts) FROM HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '10' SECOND);
INSERT INTO out1 SELECT count(*), max(ts) FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MONTH);
INSERT INTO out1 SELECT count(*), max(ts) FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), SZE => INTERVAL '1' MINUTE);
INSERT INTO out1 SELECT count(*), max(ts) FROM TUMBLE(TABLE bid, ts, INTERVAL '1' MINUTE);
INSERT INTO out1 SELECT price, ts + INTERVAL '1' FROM bid;
INSERT INTO out1 SELECT price, ts FROM bid WHERE url SIMILAR TO '[x';
SELECT 1;",
        expect![[r#"
            9:35: `TUMBLE_START(ts, INTERVAL '1' MINUTE)` does not belong to the window in GROUP BY, TUMBLE(ts, INTERVAL '2' MINUTE)
            10:35: TUMBLE_START needs `GROUP BY TUMBLE(...)` in the same SELECT
            11:48: HOP: the size (10000 ms) must be a multiple of the slide (3000 ms)
            12:48: TUMBLE: SIZE cannot be counted in months: they differ in length
            13:48: TUMBLE has no argument `SZE`; did you mean `SIZE`?; it takes (DATA, TIMECOL, SIZE, OFFSET)
            14:48: TUMBLE names its time column as DESCRIPTOR(column), not `ts`
            15:46: INTERVAL '1' needs a unit behind the quotes; write it as INTERVAL '1' SECOND
            16:50: the pattern `[x` of SIMILAR TO is not valid: a `]` is missing
        "#]],
    );
}

#[test]
fn names_of_columns_that_the_engine_adds_are_refused() {
    check(
        "CREATE TABLE t (`$kind` INT) WITH ('connector' = 'print');
CREATE VIEW v (`$a`) AS SELECT price FROM bid;
CREATE VIEW w AS SELECT price AS `$a` FROM bid;
INSERT INTO out1 SELECT b.`$a`, b.ts FROM (SELECT price, ts FROM bid) AS b (`$a`, ts);
INSERT INTO out1 WITH c (`$a`, ts) AS (SELECT price, ts FROM bid) SELECT * FROM c;
INSERT INTO out1 SELECT price AS a$, ts FROM bid;",
        expect![[r#"
            7:17: `$kind`: names of columns that begin with `$` are reserved; choose another name
            8:16: `$a`: names of columns that begin with `$` are reserved; choose another name
            9:34: `$a`: names of columns that begin with `$` are reserved; choose another name
            10:25: `$a`: names of columns that begin with `$` are reserved; choose another name
            10:77: `$a`: names of columns that begin with `$` are reserved; choose another name
            11:26: `$a`: names of columns that begin with `$` are reserved; choose another name
        "#]],
    );
}

#[test]
fn conflict_strategies_are_those_of_flink() {
    check(
        "INSERT INTO out1 SELECT price, ts FROM bid ON CONFLICT DO UPDATE;
INSERT INTO out1 SELECT price, ts FROM bid ON CONFLICT DO ERROR;
INSERT INTO out1 SELECT price, ts FROM bid WHERE price > 3 ON CONFLICT DO NOTHING;
INSERT INTO out1 SELECT price, ts FROM bid AS b ON CONFLICT DO DEDUPLICATE;
INSERT INTO out1 SELECT price, ts FROM bid ON CONFLICT (n) DO NOTHING;",
        expect![[r#"
            7:59: expected ON CONFLICT DO ERROR, DO NOTHING or DO DEDUPLICATE, found: UPDATE
            11:56: expected DO, found: (
        "#]],
    );
}

#[test]
fn mistakes_of_types_name_their_place() {
    check(
        "INSERT INTO out1 SELECT
  nested.x, ts FROM bid;
INSERT INTO out1 SELECT
  sum(url), max(ts) FROM bid;
INSERT INTO out1 SELECT price,
  TO_TIMESTAMP_LTZ(ts, 3) FROM bid;
INSERT INTO out1 SELECT price, DATE_FORMAT(price, 'yyyy') FROM bid;
INSERT INTO out1 SELECT price, ts FROM bid WHERE price;
INSERT INTO out1 SELECT price, ts FROM bid WHERE url > 3 AND url = ts;
INSERT INTO out1 SELECT price, ts FROM bid, bid;
INSERT INTO out1 SELECT ts, ts FROM bid AS a JOIN bid AS b ON a.auction = b.auction;
INSERT INTO out1 VALUES (1, TIMESTAMP '2024-01-01 00:00:00');",
        expect![[r#"
            8:10: unknown field `x` of a ROW
            10:3: SUM does not take (STRING)
            12:3: TO_TIMESTAMP_LTZ takes a STRING, not TIMESTAMP
            13:32: DATE_FORMAT takes a TIMESTAMP or DATE, not BIGINT; for milliseconds use TO_TIMESTAMP_LTZ(n, 3)
            14:50: a condition is true or false, but `bid.price` is BIGINT
            15:50: `>` mixes STRING and BIGINT: write CAST(... AS BIGINT), or CAST(... AS STRING)
            16:1: `bid` is used twice here: give it another name with AS
            17:25: column `ts` is in more than one of the tables: write it with its table, such as `t.ts`
            17:29: column `ts` is in more than one of the tables: write it with its table, such as `t.ts`
        "#]],
    );
}

/// Text is not mixed with other types, wherever the planner would cast it.
#[test]
fn text_is_not_mixed_with_other_types() {
    check(
        "INSERT INTO out1 SELECT price, ts FROM bid UNION ALL SELECT url, ts FROM bid;
INSERT INTO out1 SELECT CASE WHEN price > 1 THEN price ELSE url END, ts FROM bid;
INSERT INTO out1 SELECT price, ts FROM bid WHERE url = price;
INSERT INTO out1 SELECT price, ts FROM bid WHERE price IN ('1', '2');
INSERT INTO out1 SELECT price, ts FROM bid WHERE price = UUID();
INSERT INTO out1 SELECT LEFT(url, url) || 'x' = 'y', ts FROM bid;
INSERT INTO out1 SELECT price, ts FROM bid WHERE ts > '2024-01-01';
INSERT INTO out1 SELECT CAST(url AS BIGINT), ts FROM bid WHERE CAST(url AS INT) > 3 AND CAST(price AS STRING) = url;",
        expect![[r#"
            7:25: column 1 of this UNION ALL is BIGINT in one query and STRING in another: write CAST(... AS STRING), or CAST(... AS BIGINT)
            8:25: CASE (or IF, COALESCE) mixes BIGINT and STRING: write CAST(... AS STRING), or CAST(... AS BIGINT)
            9:50: `=` mixes STRING and BIGINT: write CAST(... AS BIGINT), or CAST(... AS STRING)
            10:50: IN mixes STRING and BIGINT: write CAST(... AS BIGINT), or CAST(... AS STRING)
            11:50: `=` mixes STRING and BIGINT: write CAST(... AS BIGINT), or CAST(... AS STRING)
            12:25: LEFT takes BIGINT here, not STRING: write CAST(... AS BIGINT)
        "#]],
    );
}

/// Arguments of aggregates that would fail for every row.
#[test]
fn aggregates_take_values_that_they_can_compute() {
    let window = "FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end";
    check(
        &format!(
            "INSERT INTO out1 SELECT MAX(MAP[url, price])['x'], window_start {window};
INSERT INTO out1 SELECT MIN(ARRAY[price])[1], window_start {window};
INSERT INTO out1 SELECT CAST(PERCENTILE(price, 1.5) AS BIGINT), window_start {window};
INSERT INTO out1 SELECT CAST(PERCENTILE(price, 0.5) AS BIGINT), window_start {window};"
        ),
        expect![[r#"
            7:25: MAX takes values that have an order, not MAP<STRING, BIGINT>
            8:25: MIN takes values that have an order, not ARRAY<BIGINT>
            9:30: PERCENTILE takes a fraction from 0 to 1, not 1.5
        "#]],
    );
}

#[test]
fn times_with_more_digits_than_microseconds_are_refused() {
    check(
        "CREATE TABLE fine (a TIMESTAMP(9), b TIMESTAMP_LTZ(7), c TIME(8)) WITH ('connector' = 'print');
CREATE TABLE finer (a ARRAY<TIMESTAMP(9)>) WITH ('connector' = 'print');
CREATE TABLE right (a TIMESTAMP, b TIMESTAMP(6), c TIMESTAMP_LTZ(6), d TIME(6)) WITH ('connector' = 'print');
INSERT INTO out1 SELECT price, CAST(ts AS TIMESTAMP(9)) FROM bid;
INSERT INTO out1 SELECT price, TIMESTAMP '2024-01-01 00:00:00.1234567' FROM bid;",
        expect![[r#"
            7:22: TIMESTAMP(9) is not supported: times have microseconds, so write TIMESTAMP(6) or fewer digits
            8:29: TIMESTAMP(9) is not supported: times have microseconds, so write TIMESTAMP(6) or fewer digits
            10:37: TIMESTAMP(9) is not supported: times have microseconds, so write TIMESTAMP(6) or fewer digits
            11:42: times have microseconds, but `2024-01-01 00:00:00.1234567` has more digits: write six of them at most
        "#]],
    );
}

#[test]
fn nesting_is_bounded() {
    let long = |operator: &str, count: usize| vec!["price"; count].join(operator);
    let says = |query: String, expected: &str| {
        let text = &format!("{TABLES}{query}");
        let input = crate::Input::Sql { name: "test", text };
        let found = match crate::plan(input, &PlanOptions::default()) {
            Ok(_) => String::new(),
            Err(errors) => errors.to_string(),
        };
        assert!(
            found.contains(expected) && found.is_empty() == expected.is_empty(),
            "{found}"
        );
    };
    says(format!("INSERT INTO out1 SELECT {}, ts FROM bid", long(" + ", 200)), "");
    says(
        format!(
            "INSERT INTO out1 SELECT price, ts FROM bid WHERE {} = 1",
            long(" = 1 OR ", 300)
        ),
        "",
    );
    says(
        format!("INSERT INTO out1 SELECT {}, ts FROM bid", long(" + ", 100_000)),
        "nests more than 500",
    );
    says(
        format!(
            "INSERT INTO out1 SELECT price, ts FROM bid{}",
            " UNION ALL SELECT price, ts FROM bid".repeat(2000)
        ),
        "nests",
    );
    says(
        format!(
            "INSERT INTO out1 SELECT {}price{}, ts FROM bid",
            "(".repeat(5000),
            ")".repeat(5000)
        ),
        "nested too deeply",
    );
    says(
        format!("INSERT INTO out1 SELECT {}1, ts FROM bid", "- ".repeat(400)),
        "nested too deeply",
    );
    says(
        format!(
            "INSERT INTO out1 SELECT {}price{}, ts FROM bid",
            "ABS(".repeat(5000),
            ")".repeat(5000)
        ),
        "nested too deeply",
    );
    says(
        format!("CREATE TABLE d (a {}INT{})", "ARRAY<".repeat(5000), ">".repeat(5000)),
        "nested too deeply",
    );
}

#[test]
fn types_that_do_not_fit_are_refused_in_terms_of_sql() {
    check(
        "CREATE TABLE a (x MULTISET) WITH ('connector' = 'print');
CREATE TABLE b (x INTERVAL DAY TO MONTH) WITH ('connector' = 'print');
SELECT CAST('5' AS INTERVAL WEEK);
SELECT url.host FROM bid;
SELECT bid.nested.* FROM bid;
SELECT bidder FROM bid WHERE bidder IN (SELECT url FROM bid);
SELECT COALESCE(tags, url), ARRAY[price, TRUE] FROM bid;
SELECT CASE WHEN price > 1 THEN tags ELSE price END FROM bid;
SELECT price IN (TRUE), price BETWEEN TRUE AND FALSE, price LIKE TRUE FROM bid;
SELECT NOT price, -url FROM bid;
SELECT ts * 2 FROM bid;
SELECT price FROM bid UNION ALL SELECT ts FROM bid;
SELECT LENGTH(url), MEAN(price) FROM bid;
SELECT LISTAGG(tags) FROM bid;",
        expect![[r#"
            7:27: expected <, found: )
            8:19: an INTERVAL from DAY to MONTH is not a type: write INTERVAL YEAR TO MONTH or INTERVAL DAY TO SECOND
            9:29: expected a unit of the INTERVAL: YEAR, MONTH, DAY, HOUR, MINUTE or SECOND, found: WEEK
            10:8: only a ROW has fields, and this is STRING
            11:1: `bid.nested.*`: there is no table `bid.nested` here; the fields of a ROW are named one by one, as in `bid.nested.field`
            12:30: IN mixes STRING and BIGINT: write CAST(... AS BIGINT), or CAST(... AS STRING)
            13:8: COALESCE does not take (ARRAY<STRING>, STRING)
            14:8: the results of CASE (or IF, COALESCE) are ARRAY<STRING> and BIGINT: convert one of them with CAST
            15:8: IN compares BIGINT with BOOLEAN: convert one of them with CAST
            16:12: NOT takes a condition, not BIGINT
            16:20: - takes a number or an interval
            17:8: * does not take TIMESTAMP and BIGINT: convert one of them with CAST
            18:8: column `ts` is BIGINT in one query of this UNION (or INTERSECT, EXCEPT) and TIMESTAMP in another: convert one of them with CAST
            19:8: LENGTH is not Flink's: use CHAR_LENGTH(s)
            19:21: MEAN is not Flink's: use AVG(x)
            20:8: there is no CAST of ARRAY<STRING> to STRING: types inside must correspond, and a ROW must have as many fields
        "#]],
    );
}
