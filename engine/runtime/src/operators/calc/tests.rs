use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::logical_expr::Operator as Comparison;
use datafusion::physical_expr::expressions::{BinaryExpr, cast, lit};
use datafusion::physical_expr::projection::ProjectionExpr;

use super::*;
use crate::operators::testing::{Emitted, integers, rows_of};

fn batch() -> RecordBatch {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1", "two", "3", "", "5"]));
    RecordBatch::try_from_iter([
        ("n", integers(&[Some(10), Some(20), None, Some(40), Some(50)])),
        ("text", text),
    ])
    .unwrap()
}

fn column(name: &str, index: usize) -> PhysicalExprRef {
    Arc::new(Column::new(name, index))
}

/// `SELECT CAST(text AS BIGINT), n FROM batch WHERE filter`.
fn calc(filter: Option<PhysicalExprRef>, on_error: ErrorPolicy) -> Calc {
    let input = batch().schema();
    let number = cast(column("text", 1), &input, DataType::Int64).unwrap();
    let calc = graph::Calc {
        filter,
        projection: vec![
            ProjectionExpr::new(number, "number".to_owned()),
            ProjectionExpr::new(column("n", 0), "n".to_owned()),
        ],
        on_error,
    };
    let output = Arc::new(Schema::new(vec![
        Field::new("number", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
    ]));
    Calc::new("step", &calc, &input, output).unwrap()
}

#[track_caller]
fn check(filter: Option<PhysicalExprRef>, on_error: ErrorPolicy, expected: &[&str], letters: &[&str]) {
    // The filter lets none of the two pass that fail.
    let bad_rows = if filter.is_some() { 0 } else { 2 };
    let mut operator = CalcOperator::new(calc(filter, on_error));
    let mut out = Emitted::default();
    assert_eq!(
        operator.on_time(1_700_000_000_000_000, &mut out).unwrap(),
        Progress::Done
    );
    assert_eq!(operator.process(0, batch(), &mut out).unwrap(), Progress::Done);
    assert_eq!(rows_of(&out.main), expected);
    assert_eq!(out.bad_rows, bad_rows, "counted whatever becomes of them");
    let payloads: Vec<String> = out
        .dead_letters
        .iter()
        .flat_map(|letters| {
            let payloads = letters.column(4);
            let payloads = datafusion::common::cast::as_binary_array(payloads).unwrap();
            payloads
                .iter()
                .map(|payload| String::from_utf8(payload.unwrap().to_vec()).unwrap())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(payloads, letters);
    for letters in &out.dead_letters {
        let times = datafusion::common::cast::as_timestamp_microsecond_array(letters.column(3)).unwrap();
        assert!(
            times.values().iter().all(|time| *time == 1_700_000_000_000_000),
            "the task's time"
        );
    }
}

/// `SELECT CAST(text AS type) FROM batch`.
#[track_caller]
fn check_message(types: &[DataType], expected: &str) {
    let input = batch().schema();
    let casts = types.iter().map(|data_type| {
        ProjectionExpr::new(
            cast(column("text", 1), &input, data_type.clone()).unwrap(),
            "c".to_owned(),
        )
    });
    let calc = graph::Calc {
        filter: None,
        projection: casts.collect(),
        on_error: ErrorPolicy::Fail,
    };
    let fields: Vec<Field> = types
        .iter()
        .map(|data_type| Field::new("c", data_type.clone(), true))
        .collect();
    let calc = Calc::new("step", &calc, &input, Arc::new(Schema::new(fields))).unwrap();
    let error = calc.evaluate(&batch(), None, 0).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(error.contains("the row is"), "{error}");
}

#[test]
fn a_cast_that_fails_is_told_with_the_type_of_the_pipeline() {
    let decimal = DataType::Decimal128(12, 2);
    check_message(&[DataType::Int64], "Cannot cast string 'two' to BIGINT");
    check_message(
        std::slice::from_ref(&decimal),
        "Cannot cast string 'two' to DECIMAL(12, 2)",
    );
    check_message(
        &[decimal.clone(), decimal.clone()],
        "Cannot cast string 'two' to DECIMAL(12, 2)",
    );
    check_message(
        &[decimal, DataType::Decimal128(20, 4)],
        "Cannot cast string 'two' to DECIMAL;",
    );
}

#[test]
fn rows_that_fail_meet_the_policy_and_no_others() {
    check(None, ErrorPolicy::Skip, &["1,10", "3,", "5,50"], &[]);
    check(None, ErrorPolicy::Null, &[",20", ",40", "1,10", "3,", "5,50"], &[]);
    check(
        None,
        ErrorPolicy::DeadLetter,
        &["1,10", "3,", "5,50"],
        &[r#"{"n":20,"text":"two"}"#, r#"{"n":40,"text":""}"#],
    );
}

#[test]
fn filtered_rows_are_not_evaluated() {
    let filter: PhysicalExprRef = Arc::new(BinaryExpr::new(column("n", 0), Comparison::Gt, lit(45i64)));
    check(Some(filter), ErrorPolicy::Fail, &["5,50"], &[]);
}

#[test]
fn a_failure_names_the_row() {
    let error = calc(None, ErrorPolicy::Fail)
        .evaluate(&batch(), None, 0)
        .unwrap_err()
        .to_string();
    assert!(error.contains(r#"the row is {"n":20,"text":"two"}"#), "{error}");
}

#[test]
fn plain_columns_are_passed_on_uncopied() {
    let input = batch();
    let calc = graph::Calc {
        filter: None,
        projection: vec![ProjectionExpr::new(column("text", 1), "text".to_owned())],
        on_error: ErrorPolicy::Fail,
    };
    let output = Arc::new(input.schema().project(&[1]).unwrap());
    let calc = Calc::new("step", &calc, &input.schema(), output).unwrap();
    let rows = calc.evaluate(&input, None, 0).unwrap().rows.unwrap();
    assert!(Arc::ptr_eq(rows.column(0), input.column(1)));
}
