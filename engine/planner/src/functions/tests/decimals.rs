//! Arithmetic of decimals: types and values.

use millstream_graph::sql_type;

use super::*;

/// Returns the type and the value of an expression.
#[track_caller]
pub(super) fn check_typed(cases: &[(&str, &str, &str)]) {
    let typed: Vec<(&str, String)> = cases
        .iter()
        .flat_map(|(expression, a_type, expected)| {
            [
                (*expression, (*expected).to_owned()),
                (*expression, format!("of type {a_type}")),
            ]
        })
        .collect();
    let wrong: Vec<String> = typed
        .iter()
        .filter_map(|(expression, expected)| {
            let found = match expected.starts_with("of type") {
                true => format!("of type {}", type_of(expression)),
                false => value(expression),
            };
            (found != *expected).then(|| format!("{expression} is {found}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn type_of(expression: &str) -> String {
    let catalog = crate::sql::new_catalog(&PlanOptions::default());
    let expression = crate::sql::read_expression(expression).expect("an expression");
    let typed = crate::sql::typed_expressions(&catalog, vec![expression], &DFSchema::empty(), &Location::Unknown);
    match typed {
        Ok(typed) => sql_type::name(&typed[0].1),
        Err(errors) => crate::Errors(errors).to_string(),
    }
}

/// Types as in Flink's `LogicalTypeMergingTest`.
#[test]
fn arithmetic_of_decimals_has_flinks_digits_and_is_null_where_they_do_not_suffice() {
    const MOST: &str = "CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0))";
    let decimal = |value: &str, precision: u8, scale: u8| format!("CAST('{value}' AS DECIMAL({precision}, {scale}))");
    let d = decimal;
    let cases: Vec<(String, &str, &str)> = vec![
        (format!("{MOST} + 1"), "DECIMAL(38, 0)", "NULL"),
        (format!("1 + {MOST}"), "DECIMAL(38, 0)", "NULL"),
        (
            format!("{MOST} - 1"),
            "DECIMAL(38, 0)",
            "99999999999999999999999999999999999998",
        ),
        (format!("-{MOST} - 1"), "DECIMAL(38, 0)", "NULL"),
        (format!("{MOST} - {MOST}"), "DECIMAL(38, 0)", "0"),
        (format!("{MOST} + {MOST}"), "DECIMAL(38, 0)", "NULL"),
        (format!("{MOST} * 2"), "DECIMAL(38, 0)", "NULL"),
        (
            format!("{MOST} * 1"),
            "DECIMAL(38, 0)",
            "99999999999999999999999999999999999999",
        ),
        (format!("{MOST} * {MOST}"), "DECIMAL(38, 0)", "NULL"),
        (format!("{MOST} * 0.5"), "DECIMAL(38, 1)", "NULL"),
        (format!("{MOST} % 7"), "DECIMAL(10, 0)", "1"),
        (format!("{MOST} % 0.7"), "DECIMAL(1, 1)", "0.3"),
        (format!("{MOST} + CAST(NULL AS INT)"), "DECIMAL(38, 0)", "NULL"),
        (
            format!("{} + {}", d("1.5", 38, 10), d("0.25", 38, 28)),
            "DECIMAL(38, 9)",
            "1.750000000",
        ),
        (
            format!("{} - {}", d("1", 38, 10), d("0.00000000005", 38, 28)),
            "DECIMAL(38, 9)",
            "1.000000000",
        ),
        (
            format!("{} + {}", d("0", 38, 10), d("-0.0000000005", 38, 28)),
            "DECIMAL(38, 9)",
            "-0.000000001",
        ),
        (
            format!("{} + {}", d("1", 20, 8), d("2", 16, 8)),
            "DECIMAL(21, 8)",
            "3.00000000",
        ),
        (
            format!("{} + {}", d("1", 32, 8), d("2", 38, 8)),
            "DECIMAL(38, 7)",
            "3.0000000",
        ),
        (
            format!("{} + {}", d("1", 30, 20), d("2", 28, 20)),
            "DECIMAL(31, 20)",
            "3.00000000000000000000",
        ),
        (
            format!("{} * {}", d("1.5", 30, 10), d("2", 30, 10)),
            "DECIMAL(38, 6)",
            "3.000000",
        ),
        (
            format!("{} * {}", d("1.5", 30, 20), d("2", 30, 20)),
            "DECIMAL(38, 17)",
            "3.00000000000000000",
        ),
        (
            format!("{} * {}", d("1.5", 38, 2), d("2", 38, 3)),
            "DECIMAL(38, 5)",
            "3.00000",
        ),
        (
            format!("{} % {}", d("5", 30, 10), d("3", 30, 10)),
            "DECIMAL(30, 10)",
            "2.0000000000",
        ),
        (
            format!("{} % {}", d("5", 30, 20), d("3", 25, 20)),
            "DECIMAL(25, 20)",
            "2.00000000000000000000",
        ),
        (
            format!("{} % {}", d("-5", 10, 2), d("3", 10, 2)),
            "DECIMAL(10, 2)",
            "-2.00",
        ),
        (
            format!("{} % 0", d("5", 38, 0)),
            "DECIMAL(10, 0)",
            "Arrow error: Divide by zero error",
        ),
        (
            format!("{} / {}", d("1", 32, 8), d("3", 38, 8)),
            "DECIMAL(38, 6)",
            "0.333333",
        ),
        (
            format!("{} / {}", d("1", 30, 20), d("3", 30, 20)),
            "DECIMAL(38, 8)",
            "0.33333333",
        ),
        (format!("{} + 1", d("1.25", 10, 2)), "DECIMAL(13, 2)", "2.25"),
        (
            format!("{} + CAST(1 AS BIGINT)", d("1.25", 10, 2)),
            "DECIMAL(22, 2)",
            "2.25",
        ),
        (format!("{} * 2", d("1.25", 10, 2)), "DECIMAL(21, 2)", "2.50"),
        (format!("2 - {}", d("1.25", 10, 2)), "DECIMAL(13, 2)", "0.75"),
        (format!("{} + 1e0", d("1.25", 10, 2)), "DOUBLE", "2.25"),
        (format!("-{}", d("1.25", 10, 2)), "DECIMAL(10, 2)", "-1.25"),
        (format!("ABS({})", d("-1.25", 10, 2)), "DECIMAL(10, 2)", "1.25"),
        (format!("FLOOR({})", d("-1.25", 38, 2)), "DECIMAL(38, 0)", "-2"),
        (format!("CEIL({})", d("1.25", 10, 2)), "DECIMAL(10, 0)", "2"),
    ];
    let cases: Vec<(&str, &str, &str)> = cases
        .iter()
        .map(|(expression, a_type, value)| (expression.as_str(), *a_type, *value))
        .collect();
    check_typed(&cases);
}
