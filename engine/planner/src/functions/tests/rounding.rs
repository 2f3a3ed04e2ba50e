//! `ROUND`, `TRUNCATE`, `SIGN` and `ABS`: types and values.

use super::check;
use super::decimals::check_typed;

#[test]
fn decimals_have_the_digits_that_are_kept() {
    check_typed(&[
        ("ROUND(2.567, 2)", "DECIMAL(4, 2)", "2.57"),
        ("ROUND(2.567, 5)", "DECIMAL(4, 3)", "2.567"),
        ("ROUND(2.567)", "DECIMAL(2, 0)", "3"),
        ("ROUND(-2.5)", "DECIMAL(2, 0)", "-3"),
        ("ROUND(CAST(9.99 AS DECIMAL(3, 2)), 1)", "DECIMAL(3, 1)", "10.0"),
        ("ROUND(1250.567, -2)", "DECIMAL(5, 0)", "1300"),
        ("ROUND(2.567, CAST(NULL AS INT))", "DECIMAL(4, 3)", "NULL"),
        ("ROUND(CAST(NULL AS DECIMAL(3, 2)), 1)", "DECIMAL(3, 1)", "NULL"),
        (
            "ROUND(CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)), -1)",
            "DECIMAL(38, 0)",
            "NULL",
        ),
        ("TRUNCATE(4.567, 2)", "DECIMAL(4, 2)", "4.56"),
        ("TRUNCATE(-4.567)", "DECIMAL(2, 0)", "-4"),
        ("TRUNCATE(CAST(42.324 AS DECIMAL(10, 3)), -1)", "DECIMAL(8, 0)", "40"),
        ("SIGN(CAST(-1.5 AS DECIMAL(5, 2)))", "DECIMAL(5, 2)", "-1.00"),
        ("SIGN(CAST(0 AS DECIMAL(2, 2)))", "DECIMAL(2, 2)", "0.00"),
        ("ABS(-1.5)", "DECIMAL(2, 1)", "1.5"),
    ]);
}

#[test]
fn floats_are_rounded_as_they_are_written() {
    check(&[
        ("ROUND(1.005e0, 2)", "1.01"),
        ("ROUND(1.015e0, 2)", "1.02"),
        ("ROUND(-1.005e0, 2)", "-1.01"),
        ("ROUND(2.5e0)", "3.0"),
        ("ROUND(-2.5e0)", "-3.0"),
        ("ROUND(0.4e0)", "0.0"),
        ("ROUND(-0.4e0)", "0.0"),
        ("ROUND(0.5e0)", "1.0"),
        ("ROUND(1.0101e0, 2)", "1.01"),
        ("ROUND(1e300, 2)", "1e300"),
        ("ROUND(1250e0, -2)", "1300.0"),
        ("ROUND(49e0, -2)", "0.0"),
        ("ROUND(50e0, -2)", "100.0"),
        ("ROUND(SQRT(-1), 2)", "NaN"),
        ("ROUND(POWER(0, -1), 2)", "inf"),
        ("ROUND(CAST(1.0101 AS FLOAT), 2)", "1.01"),
        ("ROUND(CAST(1.005 AS FLOAT), 2)", "1.01"),
        ("ROUND(CAST(NULL AS DOUBLE), 1)", "NULL"),
        ("TRUNCATE(1.019e0, 2)", "1.01"),
        ("TRUNCATE(1.29e0, 2)", "1.29"),
        ("TRUNCATE(-1.999e0, 1)", "-1.9"),
        ("TRUNCATE(0.29e0 * 100, 0)", "28.0"),
        ("TRUNCATE(CAST(1.0101 AS FLOAT), 2)", "1.01"),
        ("ROUND('a', 1)", "ROUND takes a number, not STRING"),
        (
            "ROUND(1, 'a')",
            "ROUND takes an integer as its number of digits, not STRING",
        ),
    ]);
}

#[test]
fn integers_keep_their_type() {
    check_typed(&[
        ("ROUND(15, -1)", "BIGINT", "20"),
        ("ROUND(-15, -1)", "BIGINT", "-20"),
        ("ROUND(CAST(14 AS INT), -1)", "INT", "10"),
        ("ROUND(CAST(127 AS TINYINT), -1)", "TINYINT", "NULL"),
        ("ROUND(15, 3)", "BIGINT", "15"),
        ("SIGN(CAST(-3 AS INT))", "INT", "-1"),
        ("ABS(CAST(-5 AS TINYINT))", "TINYINT", "5"),
        ("ABS(CAST(-2147483648 AS INT))", "INT", "-2147483648"),
        ("ABS(-1.5e0)", "DOUBLE", "1.5"),
    ]);
    check(&[("ABS('x')", "ABS takes a number, not STRING")]);
}
