use arrow::array::{Int64Builder, StringArray};
use arrow::array::{ListArray, ListBuilder, MapBuilder, StringBuilder};
use arrow::datatypes::{Field, Fields, Int64Type, Schema};
use proptest::prelude::*;

use super::*;
use crate::operators::testing::{Emitted, integers, rows_of, settle};

type List = Option<Vec<Option<i64>>>;

fn node(is_outer: bool, with_ordinality: bool) -> graph::Unnest {
    graph::Unnest {
        collection: 1,
        kept: vec![0],
        is_outer,
        with_ordinality,
    }
}

/// Returns the batch of an id and a list per row, with kinds if there are any.
fn batch(rows: &[(i64, List)], kinds: Option<&[i8]>) -> RecordBatch {
    let ids = integers(&rows.iter().map(|(id, _)| Some(*id)).collect::<Vec<_>>());
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(rows.iter().map(|(_, list)| list.clone()));
    let mut fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("list", lists.data_type().clone(), true),
    ];
    let mut columns: Vec<ArrayRef> = vec![ids, Arc::new(lists)];
    if let Some(kinds) = kinds {
        fields.push(changelog::kind_field());
        columns.push(Arc::new(Int8Array::from(kinds.to_vec())));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of the schema")
}

fn output(node: &graph::Unnest, elements: &[(&str, DataType)], has_kinds: bool) -> SchemaRef {
    let mut fields = vec![Field::new("id", DataType::Int64, true)];
    fields.extend(
        elements
            .iter()
            .map(|(name, data_type)| Field::new(*name, data_type.clone(), true)),
    );
    fields.extend(node.with_ordinality.then(|| Field::new("place", DataType::Int32, true)));
    fields.extend(has_kinds.then(changelog::kind_field));
    Arc::new(Schema::new(fields))
}

fn unnested(node: &graph::Unnest, elements: &[(&str, DataType)], input: RecordBatch) -> Emitted {
    let output = output(node, elements, changelog::is_changelog(&input.schema()));
    let mut operator = Unnest::new(node, &output);
    let mut out = Emitted::default();
    let progress = operator.process(0, input, &mut out).expect("the rows are unnested");
    settle(&mut operator, progress, &mut out).expect("the rows are unnested");
    out
}

#[track_caller]
fn check(flags: [bool; 2], rows: &[(i64, List)], kinds: Option<&[i8]>, expected: &[&str]) {
    let node = node(flags[0], flags[1]);
    let out = unnested(&node, &[("x", DataType::Int64)], batch(rows, kinds));
    assert_eq!(rows_of(&out.main), expected);
}

fn list(values: &[i64]) -> List {
    Some(values.iter().copied().map(Some).collect())
}

#[test]
fn rows_leave_once_per_element() {
    let rows = [
        (1, list(&[5, 6])),
        (2, list(&[])),
        (3, None),
        (4, Some(vec![None, Some(7)])),
    ];
    check([false, false], &rows, None, &["1,5", "1,6", "4,", "4,7"]);
    check([false, true], &rows, None, &["1,5,1", "1,6,2", "4,,1", "4,7,2"]);
    check(
        [true, true],
        &rows,
        None,
        &["1,5,1", "1,6,2", "2,,", "3,,", "4,,1", "4,7,2"],
    );
}

#[test]
fn an_update_leaves_as_deletions_and_insertions_of_the_elements_that_differ() {
    let rows = [
        (1, list(&[5, 6, 7])),
        (1, list(&[5, 8])),
        (2, list(&[3])),
        (3, list(&[3])),
    ];
    check(
        [false, false],
        &rows,
        Some(&[-2, 2, -2, 2]),
        &["1,6,-1", "1,7,-1", "1,8,1", "2,3,-1", "3,3,1"],
    );
    // A row without elements stays as it is.
    let rows = [(1, list(&[])), (1, None), (1, None), (1, list(&[4]))];
    check([true, false], &rows, Some(&[-2, 2, -2, 2]), &["1,,-1", "1,4,1"]);
}

#[test]
fn a_large_array_is_emitted_in_parts() {
    let count = EMIT_ROWS_MAX * 2 + 5;
    let values: Vec<i64> = (0..count as i64).collect();
    let node = node(false, true);
    let out = unnested(
        &node,
        &[("x", DataType::Int64)],
        batch(&[(1, list(&values)), (2, list(&[1]))], None),
    );
    let sizes: Vec<usize> = out.main.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [EMIT_ROWS_MAX, EMIT_ROWS_MAX, 6]);
}

#[test]
fn wide_rows_are_emitted_in_smaller_parts() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20)]));
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some((0..20).map(Some))]);
    let input = RecordBatch::try_from_iter_with_nullable([("s", text, true), ("l", Arc::new(lists) as ArrayRef, true)]);
    let fields = vec![
        Field::new("s", DataType::Utf8, true),
        Field::new("x", DataType::Int64, true),
    ];
    let mut operator = Unnest::new(&node(false, false), &Arc::new(Schema::new(fields)));
    let mut out = Emitted::default();
    let progress = operator
        .process(0, input.expect("two columns"), &mut out)
        .expect("rows");
    settle(&mut operator, progress, &mut out).expect("rows");
    assert!(out.main.iter().all(|batch| batch.num_rows() <= 4));
    assert_eq!(out.main.iter().map(RecordBatch::num_rows).sum::<usize>(), 20);
}

#[test]
fn rows_and_maps_have_several_columns() {
    let fields = Fields::from(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    let rows = StructArray::new(
        fields.clone(),
        vec![
            integers(&[Some(1), Some(2), Some(3)]),
            Arc::new(StringArray::from(vec![Some("x"), Some("y"), None])),
        ],
        Some(NullBuffer::from(vec![true, false, true])),
    );
    let field = Arc::new(Field::new("item", DataType::Struct(fields), true));
    let lists: ArrayRef = Arc::new(ListArray::new(
        field,
        OffsetBuffer::from_lengths([2, 1]),
        Arc::new(rows),
        None,
    ));
    let columns = [("id", integers(&[Some(8), Some(9)]), true), ("list", lists, true)];
    let input = RecordBatch::try_from_iter_with_nullable(columns).expect("two columns");
    let elements = [("a", DataType::Int64), ("b", DataType::Utf8)];
    let out = unnested(&node(false, false), &elements, input);
    assert_eq!(rows_of(&out.main), ["8,,", "8,1,x", "9,3,"]);

    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    maps.keys().append_value("k");
    maps.values().append_value(4);
    maps.append(true).expect("a map");
    maps.append(false).expect("a map");
    let columns = [
        ("id", integers(&[Some(8), Some(9)]), true),
        ("map", Arc::new(maps.finish()) as ArrayRef, true),
    ];
    let input = RecordBatch::try_from_iter_with_nullable(columns).expect("two columns");
    let elements = [("k", DataType::Utf8), ("v", DataType::Int64)];
    let out = unnested(&node(true, false), &elements, input);
    assert_eq!(rows_of(&out.main), ["8,k,4", "9,,"]);
}

#[test]
fn slices_of_batches_have_their_own_elements() {
    let mut lists = ListBuilder::new(Int64Builder::new());
    for count in [2, 1, 3] {
        (0..count).for_each(|value| lists.values().append_value(value));
        lists.append(true);
    }
    let columns = [
        ("id", integers(&[Some(1), Some(2), Some(3)]), true),
        ("list", Arc::new(lists.finish()) as ArrayRef, true),
    ];
    let input = RecordBatch::try_from_iter_with_nullable(columns).expect("two columns");
    let out = unnested(&node(false, false), &[("x", DataType::Int64)], input.slice(1, 2));
    assert_eq!(rows_of(&out.main), ["2,0", "3,0", "3,1", "3,2"]);
}

/// Returns the weights of the rows that a changelog leaves.
fn net(rows: impl Iterator<Item = (String, i64)>) -> std::collections::BTreeMap<String, i64> {
    let mut weights = std::collections::BTreeMap::new();
    for (row, weight) in rows {
        *weights.entry(row).or_insert(0) += weight;
    }
    weights.retain(|_, weight| *weight != 0);
    weights
}

fn lists() -> impl Strategy<Value = List> {
    prop::option::of(prop::collection::vec(prop::option::of(0..3_i64), 0..4))
}

proptest! {
    #[test]
    fn changes_add_up_to_the_elements_of_the_rows(
        changes in prop::collection::vec((0..3_i64, lists(), 0..3_i64, lists(), 0..3_u8), 1..20),
        is_outer: bool,
        with_ordinality: bool,
    ) {
        let (mut rows, mut kinds) = (Vec::new(), Vec::new());
        for (id, list, new_id, new_list, change) in changes {
            match change {
                0 => { rows.push((id, list)); kinds.push(1); }
                1 => { rows.push((id, list)); kinds.push(-1); }
                _ => { rows.extend([(id, list), (new_id, new_list)]); kinds.extend([-2, 2]); }
            }
        }
        let expected = net(rows.iter().zip(&kinds).flat_map(|((id, list), kind)| {
            let elements = list.clone().unwrap_or_default();
            let text = |value: &Option<i64>| value.map_or(String::new(), |value| value.to_string());
            let mut texts: Vec<String> = elements.iter().enumerate().map(|(place, value)| {
                let place = if with_ordinality { format!(",{}", place + 1) } else { String::new() };
                format!("{id},{}{place}", text(value))
            }).collect();
            if texts.is_empty() && is_outer {
                texts.push(format!("{id},{}", if with_ordinality { "," } else { "" }));
            }
            let weight = i64::from(i8::signum(*kind));
            texts.into_iter().map(move |text| (text, weight)).collect::<Vec<_>>()
        }));
        let node = node(is_outer, with_ordinality);
        let out = unnested(&node, &[("x", DataType::Int64)], batch(&rows, Some(&kinds)));
        let emitted = rows_of(&out.main).into_iter().map(|row| {
            let (row, kind) = row.rsplit_once(',').expect("a kind");
            (row.to_owned(), kind.parse().expect("a weight of one row"))
        });
        prop_assert_eq!(net(emitted), expected);
    }
}
