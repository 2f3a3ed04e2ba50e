use arrow::compute::SortOptions;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use proptest::prelude::*;

use super::*;
use crate::operators::testing::{Emitted, context, integers, on_own_thread, settle};

/// Rows of a value and a number, in the order of their emission.
fn rows_in_order(batches: &[RecordBatch]) -> Vec<(Option<i64>, i64)> {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int64Type;
    let rows = batches.iter().flat_map(|batch| {
        let values = batch.column(0).as_primitive::<Int64Type>();
        let numbers = batch.column(1).as_primitive::<Int64Type>();
        (0..batch.num_rows()).map(|row| (values.is_valid(row).then(|| values.value(row)), numbers.value(row)))
    });
    rows.collect()
}

fn batch(rows: &[(Option<i64>, i64)]) -> RecordBatch {
    let values: Vec<_> = rows.iter().map(|row| row.0).collect();
    let numbers: Vec<_> = rows.iter().map(|row| Some(row.1)).collect();
    let columns = [("v", integers(&values), true), ("n", integers(&numbers), true)];
    RecordBatch::try_from_iter_with_nullable(columns).expect("two columns")
}

fn sorted(batches: &[Vec<(Option<i64>, i64)>], options: SortOptions, memory_bytes: usize) -> Vec<(Option<i64>, i64)> {
    let schema = batch(&[]).schema();
    let node = graph::Sort {
        order: vec![PhysicalSortExpr::new(Arc::new(Column::new("v", 0)), options)],
    };
    let mut operator = Sort::new(&node, &schema, &schema, context(memory_bytes)).expect("an operator");
    let mut out = Emitted::default();
    for rows in batches {
        let progress = operator.process(0, batch(rows), &mut out).expect("the rows are kept");
        settle(&mut operator, progress, &mut out).expect("the rows are kept");
    }
    assert!(out.main.is_empty(), "nothing leaves before the end of the input");
    let progress = operator.finish(&mut out).expect("the rows are sorted");
    settle(&mut operator, progress, &mut out).expect("the rows are sorted");
    assert!(out.main.iter().all(|batch| batch.num_rows() <= CALL_ROWS_MAX));
    rows_in_order(&out.main)
}

fn expected(batches: &[Vec<(Option<i64>, i64)>], options: SortOptions) -> Vec<(Option<i64>, i64)> {
    let mut rows = batches.concat();
    rows.sort_by(|(a, _), (b, _)| match (a, b) {
        (None, None) => std::cmp::Ordering::Equal,
        (None, Some(_)) if options.nulls_first => std::cmp::Ordering::Less,
        (Some(_), None) if !options.nulls_first => std::cmp::Ordering::Less,
        (None, Some(_)) | (Some(_), None) => std::cmp::Ordering::Greater,
        (Some(a), Some(b)) if options.descending => b.cmp(a),
        (Some(a), Some(b)) => a.cmp(b),
    });
    rows
}

#[test]
fn many_rows_leave_in_parts() {
    on_own_thread(|| {
        let rows: Vec<_> = (0..10_000)
            .map(|number| (Some((number * 7_919) % 10_007), number))
            .collect();
        let batches: Vec<Vec<_>> = rows.chunks(1_000).map(<[_]>::to_vec).collect();
        let options = SortOptions::default();
        for memory_bytes in [64 << 20, 4 << 10] {
            assert_eq!(sorted(&batches, options, memory_bytes), expected(&batches, options));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn rows_leave_in_their_order(
        values in prop::collection::vec(prop::collection::vec(prop::option::of(-3..4_i64), 1..40), 0..8),
        descending: bool,
        nulls_first: bool,
        is_small: bool,
    ) {
        let mut number = 0;
        let batches: Vec<Vec<(Option<i64>, i64)>> = values.into_iter().map(|values| {
            values.into_iter().map(|value| { number += 1; (value, number) }).collect()
        }).collect();
        let options = SortOptions { descending, nulls_first };
        let memory_bytes = if is_small { 1 << 10 } else { 64 << 20 };
        let found = on_own_thread(|| sorted(&batches, options, memory_bytes));
        prop_assert_eq!(found, expected(&batches, options));
    }
}
