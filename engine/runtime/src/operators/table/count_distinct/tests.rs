use std::collections::BTreeSet;

use arrow::array::StringArray;
use arrow::compute::cast;
use proptest::prelude::*;

use super::*;

/// A step of a random test of the accumulator.
#[derive(Debug, Clone)]
enum Step {
    Update(Vec<(u32, Option<i64>)>),
    Merge(Vec<(u32, i64)>),
    /// A snapshot of some groups is taken, to be read at the end.
    Copy(Option<Vec<u32>>),
}

fn any_step() -> impl Strategy<Value = Step> {
    let value = || prop_oneof![4 => 0i64..30, 1 => (0i64..3).prop_map(|large| (large << 32) - 1), 1 => -3i64..0];
    let rows = prop::collection::vec((0u32..10, prop::option::weighted(0.9, value())), 1..20);
    prop_oneof![
        4 => rows.prop_map(Step::Update),
        2 => prop::collection::vec((0u32..10, value()), 1..20).prop_map(Step::Merge),
        1 => prop::option::of(prop::collection::vec(0u32..10, 0..5)).prop_map(Step::Copy),
    ]
}

fn column(values: Vec<Option<i64>>, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Utf8 => Arc::new(StringArray::from_iter(
            values.iter().map(|value| value.map(|value| value.to_string())),
        )),
        other => cast(&Int64Array::from(values), other).expect("numbers that fit"),
    }
}

/// The values of each list, as texts.
fn texts(states: &[ArrayRef]) -> Vec<BTreeSet<String>> {
    let lists = states[0].as_list::<i32>();
    let texts = cast(lists.values(), &DataType::Utf8).expect("texts");
    let texts = texts.as_string::<i32>();
    let bounds = lists.value_offsets().windows(2);
    bounds
        .map(|bound| {
            (bound[0] as usize..bound[1] as usize)
                .map(|at| texts.value(at).to_owned())
                .collect()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn groups_have_their_distinct_values_and_copies_those_of_then(
        steps in prop::collection::vec(any_step(), 1..30),
        data_type in prop_oneof![Just(DataType::Int64), Just(DataType::Utf8)],
    ) {
        let item: FieldRef = Arc::new(Field::new("item", data_type.clone(), true));
        let mut distinct = CountDistinct::of(&item).expect("made");
        let mut model: Vec<BTreeSet<String>> = Vec::new();
        let mut snapshots = Vec::new();
        for step in steps {
            match step {
                Step::Update(rows) => {
                    let (groups, values): (Vec<u32>, Vec<Option<i64>>) = rows.into_iter().unzip();
                    let count = groups.iter().max().map_or(0, |max| *max as usize + 1).max(model.len());
                    model.resize(count, BTreeSet::new());
                    for (group, value) in groups.iter().zip(&values) {
                        model[*group as usize].extend(value.map(|value| value.to_string()));
                    }
                    distinct.update(&[column(values, &data_type)], None, &groups, count).expect("updated");
                }
                Step::Merge(rows) => {
                    let (groups, values): (Vec<u32>, Vec<i64>) = rows.into_iter().unzip();
                    let count = groups.iter().max().map_or(0, |max| *max as usize + 1).max(model.len());
                    model.resize(count, BTreeSet::new());
                    for (group, value) in groups.iter().zip(&values) {
                        model[*group as usize].insert(value.to_string());
                    }
                    let each: Vec<u32> = (0..groups.len() as u32).collect();
                    let mut other = CountDistinct::of(&item).expect("made");
                    let values = column(values.into_iter().map(Some).collect(), &data_type);
                    other.update(&[values], None, &each, each.len()).expect("updated");
                    let states = other.state(&Select::Range(0..each.len())).expect("states");
                    distinct.merge(&states, &groups, count).expect("merged");
                }
                Step::Copy(groups) => {
                    let groups: Vec<u32> = match groups {
                        Some(groups) => groups.into_iter().filter(|group| (*group as usize) < model.len()).collect(),
                        None => (0..model.len() as u32).collect(),
                    };
                    let then: Vec<_> = groups.iter().map(|group| model[*group as usize].clone()).collect();
                    snapshots.push((distinct.snapshot(&Select::Indices(&groups)).expect("a snapshot"), then));
                }
            }
        }
        let all = 0..model.len();
        snapshots.push((distinct.snapshot(&Select::Range(all.clone())).expect("a snapshot"), model.clone()));
        for (mut copy, then) in snapshots {
            prop_assert_eq!(texts(&copy.read(&Select::Range(0..then.len())).expect("read")), then.clone());
            let backwards: Vec<u32> = (0..then.len() as u32).rev().collect();
            let found = texts(&copy.read(&Select::Indices(&backwards)).expect("read"));
            prop_assert_eq!(found, then.into_iter().rev().collect::<Vec<_>>());
        }
        prop_assert_eq!(texts(&distinct.state(&Select::Range(all.clone())).expect("states")), model.clone());
        let counts = distinct.evaluate(&Select::Range(all)).expect("counts");
        let counts: Vec<usize> = counts.as_primitive::<Int64Type>().values().iter().map(|n| *n as usize).collect();
        prop_assert_eq!(counts, model.iter().map(BTreeSet::len).collect::<Vec<_>>());
    }
}
