//! The operator against the definition, with random changes, small memory, checkpoints and restores.

use std::collections::BTreeMap;

use arrow::array::Int8Array;
use arrow::datatypes::{DataType, Field, Int8Type};
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use millstream_graph::{ChangelogMode, Emission, Stream};
use proptest::prelude::*;

use millstream_connectors::changelog;

use super::*;
use crate::operator::Operator;
use crate::operators::testing::{Subtasks, integers, on_own_thread, proptest_config, rows_of};

const INPUTS: usize = 3;

/// A row: key and value.
type Row = (Option<i64>, i64);

fn schema(input: usize) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(format!("key{input}"), DataType::Int64, true),
        Field::new(format!("value{input}"), DataType::Int64, true),
        changelog::kind_field(),
    ]))
}

fn batch(input: usize, rows: &[(Row, i8)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        integers(&rows.iter().map(|row| row.0.0).collect::<Vec<_>>()),
        integers(&rows.iter().map(|row| Some(row.0.1)).collect::<Vec<_>>()),
        Arc::new(Int8Array::from_iter_values(rows.iter().map(|row| row.1))),
    ];
    RecordBatch::try_new(schema(input), columns).unwrap()
}

/// The first value must be less than the last one. Output: the key, then the values from the last to the first.
fn make(context: OperatorContext) -> Box<dyn Operator> {
    let value = |input: usize| Arc::new(Column::new(&format!("value{input}"), 2 * input + 1));
    let node = graph::MultiJoin {
        keys: vec![vec![0]; INPUTS],
        filter: Some(Arc::new(BinaryExpr::new(value(0), BinaryOperator::Lt, value(2)))),
        output: vec![(1, 0), (2, 1), (1, 1), (0, 1)],
        emission: Emission::Changes,
        state_ttl: None,
    };
    let fields = node
        .output
        .iter()
        .map(|(input, column)| schema(*input).field(*column).clone());
    let output = Stream {
        schema: Arc::new(Schema::new(fields.chain([changelog::kind_field()]).collect::<Vec<_>>())),
        event_time: None,
        window: None,
        changelog: ChangelogMode::Retract,
        upsert_keys: Vec::new(),
    };
    let inputs: Vec<SchemaRef> = (0..INPUTS).map(schema).collect();
    Box::new(multi_join(&node, &inputs, &output, context).unwrap())
}

fn expected(tables: &[Vec<Row>; INPUTS]) -> Vec<String> {
    let mut lines = Vec::new();
    for a in &tables[0] {
        for b in tables[1].iter().filter(|b| b.0 == a.0 && a.0.is_some()) {
            for c in tables[2].iter().filter(|c| c.0 == a.0 && a.1 < c.1) {
                lines.push(format!("{},{},{},{}", a.0.unwrap_or_default(), c.1, b.1, a.1));
            }
        }
    }
    lines.sort();
    lines
}

/// A step: changes of one input (a row, and true for an insertion), and the parallelism to restore at (0: none).
type Step = (usize, Vec<(Row, bool)>, usize);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop_oneof![6 => (0..8i64).prop_map(Some), 1 => Just(None)];
    let rows = prop::collection::vec(((key, 0..6i64), prop::bool::weighted(0.65)), 1..30);
    let restore = prop_oneof![3 => Just(0usize), 1 => 1..=3usize];
    prop::collection::vec((0..INPUTS, rows, restore), 1..10)
}

/// The value of rows that are deleted before they are inserted.
const ABSENT_VALUE: i64 = 3_000;

fn run(steps: &[Step], memory_bytes: usize, is_reversed: bool) {
    let mut subtasks = Subtasks::new(&make, &[0; INPUTS], memory_bytes);
    let mut tables: [Vec<Row>; INPUTS] = Default::default();
    let mut folded: BTreeMap<String, i64> = BTreeMap::new();
    // Rows whose deletion has arrived, but not their insertion.
    let mut announced: [Option<Row>; INPUTS] = [None; INPUTS];
    for (input, changes, restore) in steps {
        let table = &mut tables[*input];
        let mut rows: Vec<(Row, i8)> = announced[*input].take().map(|row| (row, 1)).into_iter().collect();
        if is_reversed {
            let row = (changes[0].0.0, ABSENT_VALUE);
            rows.push((row, -1));
            announced[*input] = Some(row);
        }
        for ((key, value), inserts) in changes {
            let of_key: Vec<usize> = (0..table.len()).filter(|row| table[*row].0 == *key).collect();
            match *inserts || of_key.is_empty() {
                true => {
                    table.push((*key, *value));
                    rows.push(((*key, *value), 1));
                }
                false => rows.push((table.remove(of_key[*value as usize % of_key.len()]), -1)),
            }
        }
        if is_reversed {
            rows.reverse();
        }
        subtasks.process(*input, &batch(*input, &rows));
        for batch in std::mem::take(&mut subtasks.out.main) {
            let kinds = batch.column(4).as_primitive::<Int8Type>();
            for row in 0..batch.num_rows() {
                let line = rows_of(&[batch.slice(row, 1).project(&[0, 1, 2, 3]).unwrap()]).remove(0);
                let count = folded.entry(line.clone()).or_default();
                *count += i64::from(kinds.value(row).signum());
                assert!(*count >= 0, "{line} is deleted, but absent");
            }
        }
        let lines = folded
            .iter()
            .flat_map(|(line, count)| (0..*count).map(move |_| line.clone()));
        assert_eq!(lines.collect::<Vec<_>>(), expected(&tables));
        subtasks.snapshot((*restore > 0).then_some(*restore));
    }
}

proptest! {
    #![proptest_config(proptest_config(24))]

    #[test]
    fn results_are_those_of_the_rows_so_far(steps in steps(), is_small: bool, is_reversed: bool) {
        let memory_bytes = if is_small { 2 << 10 } else { 1 << 30 };
        on_own_thread(|| run(&steps, memory_bytes, is_reversed));
    }
}

#[test]
fn many_combinations_are_emitted_in_parts() {
    on_own_thread(|| {
        let mut subtasks = Subtasks::new(&make, &[0; INPUTS], 1 << 30);
        for input in 0..2 {
            let rows: Vec<(Row, i8)> = (0..150).map(|value| ((Some(1), -value), 1)).collect();
            subtasks.process(input, &batch(input, &rows));
        }
        assert!(subtasks.out.main.is_empty());
        subtasks.process(2, &batch(2, &[((Some(1), 5), 1)]));
        assert!(subtasks.out.main.len() > 1);
        assert_eq!(
            subtasks.out.main.iter().map(RecordBatch::num_rows).sum::<usize>(),
            150 * 150
        );
    });
}

/// Compares the results of random changes with their definition.
pub(in crate::operators) fn check_random_changes() {
    results_are_those_of_the_rows_so_far();
}
