use std::collections::BTreeMap;

use datafusion::logical_expr::Operator as Comparison;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use proptest::prelude::*;

use super::*;
use crate::operators::testing::{Subtasks, integers, on_own_thread, proptest_config, rows_of, timestamps};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

/// Window end (all windows have a length of 10), key, value. The column `note` is only in late rows.
type Row = (i64, Option<i64>, i64);

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("window_start", time.clone(), true),
        Field::new("window_end", time, true),
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("note", DataType::Int64, true),
    ]))
}

fn joined_fields() -> Vec<Arc<Field>> {
    schema().fields()[..4].to_vec()
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        timestamps(&rows.iter().map(|row| Some(row.0 - 10)).collect::<Vec<_>>()),
        timestamps(&rows.iter().map(|row| Some(row.0)).collect::<Vec<_>>()),
        integers(&rows.iter().map(|row| row.1).collect::<Vec<_>>()),
        integers(&rows.iter().map(|row| Some(row.2)).collect::<Vec<_>>()),
        integers(&rows.iter().map(|row| Some(row.2 + 100)).collect::<Vec<_>>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn text(row: &Row) -> String {
    let key = row.1.map(|key| key.to_string()).unwrap_or_default();
    format!("{},{},{},{}", row.0 - 10, row.0, key, row.2)
}

/// Returns the output by definition, of the condition left value <= right value.
fn expected(join_type: JoinType, left: &[Row], right: &[Row]) -> Vec<String> {
    let meets =
        |left: &Row, right: &Row| left.0 == right.0 && left.1.is_some() && left.1 == right.1 && left.2 <= right.2;
    let mut lines = Vec::new();
    let is_pair = matches!(
        join_type,
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full
    );
    for left in left {
        let partners: Vec<&Row> = right.iter().filter(|right| meets(left, right)).collect();
        match join_type {
            JoinType::LeftSemi if !partners.is_empty() => lines.push(text(left)),
            JoinType::LeftAnti if partners.is_empty() => lines.push(text(left)),
            _ if !is_pair => {}
            JoinType::Left | JoinType::Full if partners.is_empty() => lines.push(format!("{},,,,", text(left))),
            _ => lines.extend(partners.iter().map(|right| format!("{},{}", text(left), text(right)))),
        }
    }
    if matches!(join_type, JoinType::Right | JoinType::Full) {
        let alone = right.iter().filter(|right| !left.iter().any(|left| meets(left, right)));
        lines.extend(alone.map(|right| format!(",,,,{}", text(right))));
    }
    lines.sort();
    lines
}

fn operator(join_type: JoinType, context: OperatorContext) -> WindowJoin {
    let window = WindowColumns { start: 0, end: 1 };
    let node = graph::WindowJoin {
        join_type,
        joined_columns: [4, 4],
        left: window,
        right: window,
        on: vec![(2, 2)],
        filter: Some(Arc::new(BinaryExpr::new(
            Arc::new(Column::new("v", 3)),
            Comparison::LtEq,
            Arc::new(Column::new("v", 7)),
        ))),
    };
    let mut fields = joined_fields();
    if !matches!(join_type, JoinType::LeftSemi | JoinType::LeftAnti) {
        fields.extend(joined_fields());
    }
    let output = Arc::new(Schema::new(fields));
    WindowJoin::new("join", &node, [&schema(), &schema()], &output, context).unwrap()
}

#[test]
fn late_rows_are_emitted_with_all_columns() {
    on_own_thread(|| {
        let make = |context: OperatorContext| -> Box<dyn Operator> { Box::new(operator(JoinType::Inner, context)) };
        let mut subtasks = Subtasks::new(&make, &[2, 2], usize::MAX);
        subtasks.process(0, &batch(&[(10, Some(1), 1)]));
        subtasks.watermark(19);
        subtasks.process(0, &batch(&[(10, Some(1), 2), (30, Some(1), 3)]));
        subtasks.process(1, &batch(&[(20, Some(1), 4), (30, Some(1), 5)]));
        subtasks.watermark(29);
        assert_eq!(rows_of(&subtasks.out.late), ["0,10,1,2,102", "10,20,1,4,104"]);
        assert_eq!(rows_of(&subtasks.out.main), ["20,30,1,3,20,30,1,5"]);
    });
}

fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::vec((1i64..4, proptest::option::weighted(0.7, 0i64..3), 0i64..5), 0..20).prop_map(
        |mut rows| {
            rows.sort();
            rows.into_iter()
                .map(|(end, key, value)| (end * 10, key, value))
                .collect()
        },
    )
}

proptest! {
    #![proptest_config(proptest_config(3))]

    /// Every type of join gives the output of the definition, in memory and from the store.
    #[test]
    fn joins_agree_with_the_definition(
        left in any_rows(),
        right in any_rows(),
        memory in prop_oneof![Just(1usize), Just(usize::MAX)],
        restore_at in proptest::option::of(1usize..4),
    ) {
        on_own_thread(|| {
        for join_type in [
            JoinType::Inner,
            JoinType::Left,
            JoinType::Right,
            JoinType::Full,
            JoinType::LeftSemi,
            JoinType::LeftAnti,
        ] {
            let make = |context: OperatorContext| -> Box<dyn Operator> { Box::new(operator(join_type, context)) };
            let mut subtasks = Subtasks::new(&make, &[2, 2], memory);
            let mut by_end: BTreeMap<i64, [Vec<Row>; 2]> = BTreeMap::new();
            for (side, rows) in [&left, &right].into_iter().enumerate() {
                for row in rows {
                    by_end.entry(row.0).or_default()[side].push(*row);
                }
            }
            for (end, sides) in by_end {
                for (side, rows) in sides.iter().enumerate() {
                    for rows in rows.chunks(3) {
                        subtasks.process(side, &batch(rows));
                    }
                    if restore_at.is_some() && side == (end / 10) as usize % 2 {
                        subtasks.snapshot(restore_at);
                    }
                }
                subtasks.watermark(end - 1);
            }
            prop_assert_eq!(rows_of(&subtasks.out.main), expected(join_type, &left, &right), "{}", join_type);
        }
        Ok(())
        })?;
    }
}

/// Compares joins of all types with their definition.
pub(in crate::operators) fn check_all_types() {
    joins_agree_with_the_definition();
}
