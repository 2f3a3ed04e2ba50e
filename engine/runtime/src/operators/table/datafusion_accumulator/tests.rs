use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::functions_aggregate::{array_agg, min_max};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use proptest::prelude::*;

use super::*;

fn external(
    udaf: Arc<datafusion::logical_expr::AggregateUDF>,
    data_type: DataType,
    live_bytes_max: usize,
) -> DataFusionAccumulator {
    let schema = Arc::new(Schema::new(vec![Field::new("v", data_type, true)]));
    let value: PhysicalExprRef = Arc::new(Column::new("v", 0));
    let function = AggregateExprBuilder::new(udaf, vec![value])
        .schema(schema)
        .alias("aggregate")
        .build()
        .unwrap();
    let mut external = DataFusionAccumulator::new(Arc::new(function)).unwrap();
    external.live_bytes_max = live_bytes_max;
    external
}

fn strings(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(StringArray::from_iter(
        values.iter().map(|value| value.map(|value| value.to_string())),
    ))
}

/// A step of a random test of an accumulator.
#[derive(Debug, Clone)]
enum Step {
    Update(Vec<(u32, Option<i64>)>),
    Merge(Vec<(u32, Option<i64>)>),
    /// The states of some groups are read, and a second aggregate of these read from them.
    Read(Vec<u32>),
}

fn any_step() -> impl Strategy<Value = Step> {
    let rows = || proptest::collection::vec((0u32..40, proptest::option::weighted(0.9, 0i64..200)), 1..20);
    prop_oneof![
        4 => rows().prop_map(Step::Update),
        1 => rows().prop_map(Step::Merge),
        2 => proptest::collection::vec(0u32..40, 0..10).prop_map(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whichever groups are read, and however often states are settled and segments compacted, the state and the result
    /// of each group are those of its rows in their order.
    #[test]
    fn groups_are_what_their_rows_say(
        steps in proptest::collection::vec(any_step(), 1..40),
        live_bytes_max in prop_oneof![Just(0usize), Just(2_000), Just(usize::MAX / 4)],
    ) {
        let mut highest = external(min_max::max_udaf(), DataType::Utf8, live_bytes_max);
        let mut listed = external(array_agg::array_agg_udaf(), DataType::Int64, live_bytes_max);
        let mut model: Vec<Vec<Option<i64>>> = Vec::new();
        for step in steps {
            match step {
                Step::Update(rows) | Step::Merge(rows) if rows.is_empty() => {}
                Step::Update(ref rows) | Step::Merge(ref rows) => {
                    let groups: Vec<u32> = rows.iter().map(|row| row.0).collect();
                    let values: Vec<Option<i64>> = rows.iter().map(|row| row.1).collect();
                    let count = model.len().max(*groups.iter().max().unwrap() as usize + 1);
                    model.resize(count, Vec::new());
                    rows.iter().for_each(|(group, value)| model[*group as usize].push(*value));
                    let columns: [ArrayRef; 2] = [strings(&values), Arc::new(Int64Array::from(values))];
                    for (external, column) in [&mut highest, &mut listed].into_iter().zip(columns) {
                        if matches!(step, Step::Update(_)) {
                            external.update(&[column], None, &groups, count).unwrap();
                            continue;
                        }
                        let mut other = DataFusionAccumulator::new(Arc::clone(&external.function)).unwrap();
                        let each: Vec<u32> = (0..groups.len() as u32).collect();
                        other.update(&[column], None, &each, each.len()).unwrap();
                        let states = other.state(&Select::Range(0..each.len())).unwrap();
                        external.merge(&states, &groups, count).unwrap();
                    }
                }
                Step::Read(groups) => {
                    let groups: Vec<u32> = groups.into_iter().filter(|group| (*group as usize) < model.len()).collect();
                    check(&mut highest, &mut listed, &model, &groups);
                }
            }
        }
        let groups: Vec<u32> = (0..model.len() as u32).collect();
        check(&mut highest, &mut listed, &model, &groups);
        let segments = |external: &DataFusionAccumulator| external.settled.segments.iter().flatten().count();
        prop_assert!(segments(&highest) <= SEGMENTS_MAX + 1);
    }
}

#[track_caller]
fn check(
    highest: &mut DataFusionAccumulator,
    listed: &mut DataFusionAccumulator,
    model: &[Vec<Option<i64>>],
    groups: &[u32],
) {
    let select = Select::Indices(groups);
    let results = highest.evaluate(&select).unwrap();
    let lists = listed.evaluate(&select).unwrap();
    for (at, group) in groups.iter().enumerate() {
        let rows = &model[*group as usize];
        let expected = rows.iter().flatten().map(|value| value.to_string()).max();
        let found = results
            .is_valid(at)
            .then(|| results.as_string::<i32>().value(at).to_owned());
        assert_eq!(found, expected);
        let list = lists.as_list::<i32>().value(at);
        let found: Vec<Option<i64>> = list.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(found, *rows);
    }
}

/// A snapshot of the changed groups is as large as those, not as all groups.
#[test]
fn reading_what_changed_leaves_the_rest_alone() {
    let mut highest = external(min_max::max_udaf(), DataType::Utf8, LIVE_BYTES_MAX);
    let groups: Vec<u32> = (0..10_000).collect();
    let values: Vec<Option<i64>> = groups.iter().map(|group| Some(i64::from(*group))).collect();
    highest
        .update(&[strings(&values)], None, &groups, groups.len())
        .unwrap();
    highest.state(&Select::Range(0..groups.len())).unwrap();
    let before = |external: &DataFusionAccumulator| {
        let segment = external.settled.segments[0].as_ref().unwrap();
        (Arc::clone(&segment.states[0]), segment.in_use)
    };
    let (states, _) = before(&highest);
    highest
        .update(&[strings(&[Some(99_999)])], None, &[7], groups.len())
        .unwrap();
    assert_eq!(highest.touched, [7]);
    let changed = highest.state(&Select::Indices(&[7])).unwrap();
    assert_eq!(changed[0].as_string::<i32>().value(0), "99999");
    let (same, in_use) = before(&highest);
    assert!(Arc::ptr_eq(&states, &same));
    assert_eq!(in_use, groups.len() - 1);
}
