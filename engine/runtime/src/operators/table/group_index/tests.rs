use std::sync::Arc;

use super::*;
use arrow::array::{Array, Int32Array, Int64Array, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Field;

#[track_caller]
fn check(columns: Vec<ArrayRef>, expected: &[u32]) {
    let fields: Vec<FieldRef> = columns
        .iter()
        .map(|column| Arc::new(Field::new("k", column.data_type().clone(), true)))
        .collect();
    let mut index = new_group_index(&fields).unwrap();
    let mut groups = Vec::new();
    let rows = columns[0].len();
    for _ in 0..2 {
        index.intern(&columns, rows, &mut groups).unwrap();
        assert_eq!(groups, expected);
    }
    index.find(&columns, rows, &mut groups).unwrap();
    assert_eq!(groups, expected);
    let keys = index.keys(&Select::Indices(expected)).unwrap();
    assert_eq!(keys.len(), columns.len());
    for (key, column) in keys.iter().zip(&columns) {
        assert_eq!(key, column);
    }
    index.clear();
    assert_eq!(index.len(), 0);
    index.find(&columns, rows, &mut groups).unwrap();
    assert_eq!(groups, vec![UNKNOWN; rows]);
}

#[test]
fn groups_are_numbered_by_first_appearance_and_keys_read_back() {
    check(
        vec![Arc::new(Int64Array::from(vec![Some(7), None, Some(0), Some(7), None]))],
        &[0, 1, 2, 0, 1],
    );
    check(vec![Arc::new(Int32Array::from(vec![-1, i32::MIN, -1]))], &[0, 1, 0]);
    check(
        vec![Arc::new(StringArray::from(vec![Some(""), None, Some("a"), Some("")]))],
        &[0, 1, 2, 0],
    );
    check(
        vec![
            Arc::new(StringArray::from(vec!["a", "a", "b", "a"])),
            Arc::new(Int64Array::from(vec![Some(1), None, Some(1), Some(1)])),
        ],
        &[0, 1, 2, 0],
    );
}

#[test]
fn zeros_are_equal() {
    let column: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
    let mut index = new_group_index(&[Arc::new(Field::new("k", DataType::Float64, true))]).unwrap();
    let mut groups = Vec::new();
    index.intern(std::slice::from_ref(&column), 4, &mut groups).unwrap();
    assert_eq!(groups, [0, 0, 1, 1]);

    // Within rows and arrays, too.
    let item: FieldRef = Arc::new(Field::new("x", DataType::Float64, true));
    let row: ArrayRef = Arc::new(arrow::array::StructArray::from(vec![(
        Arc::clone(&item),
        Arc::clone(&column),
    )]));
    let offsets = OffsetBuffer::from_lengths([1; 4]);
    let list: ArrayRef = Arc::new(arrow::array::ListArray::new(item, offsets, column, None));
    for nested in [row, list] {
        let mut index = new_group_index(&[Arc::new(Field::new("k", nested.data_type().clone(), true))]).unwrap();
        index.intern(&[nested], 4, &mut groups).unwrap();
        assert_eq!(groups, [0, 0, 1, 1]);
    }
}

#[test]
fn integer_index_grows() {
    let field: FieldRef = Arc::new(Field::new("k", DataType::Int64, true));
    let mut index = new_group_index(&[field]).unwrap();
    let mut groups = Vec::new();
    for start in (0..100_000i64).step_by(10_000) {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((start..start + 10_000).map(|k| k * 128)));
        index.intern(&[keys], 10_000, &mut groups).unwrap();
        assert_eq!(groups[0] as i64, start);
    }
    assert_eq!(index.len(), 100_000);
}
