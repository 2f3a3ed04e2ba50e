//! Functions of maps, and access to elements of maps and arrays.
//!
//! Of several entries with one key, a map keeps the last value. A key is never NULL.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, MapArray, StructArray, make_comparator, new_empty_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{SortOptions, cast, interleave, take};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Int64Type};
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::{multiset, sql_type};

use super::arrays::{common, element_of, list_of};
use super::scalar::{Scalar, array};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        element_at(),
        map_value(),
        Scalar::fallible("$map", entries, map_type, construct),
        Scalar::fallible("map_from_arrays", key_and_value_arrays, arrays_map_type, from_arrays),
        Scalar::infallible("map_union", maps, |given| given[0].clone(), union),
        Scalar::fallible("element", array_or_multiset, |given| sole_type(&given[0]), sole_element),
    ]
}

/// Returns the function of `array[position]`, which is NULL for a position outside of the array.
pub(super) fn element_at() -> Scalar {
    Scalar::infallible("$element", array_and_position, |given| element_type(&given[0]), element)
}

/// Returns the function of `map[key]`, which is NULL for a key that is not in the map.
pub(super) fn map_value() -> Scalar {
    Scalar::infallible("$map_value", map_and_key, map_value_type, value_of_key)
}

/// Returns the type of maps from keys to values.
fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Field::new("entries", DataType::Struct(entries), false).into(), false)
}

/// Returns the types of a map's keys and values.
fn key_and_value(given: &DataType) -> Result<(&DataType, &DataType)> {
    if let DataType::Map(entries, _) = given
        && multiset::element(given).is_none()
        && let DataType::Struct(fields) = entries.data_type()
        && let [key, value] = fields.as_ref()
    {
        return Ok((key.data_type(), value.data_type()));
    }
    plan_err!("takes a MAP, not {}", sql_type::name(given))
}

fn element_type(list: &DataType) -> DataType {
    element_of(list).cloned().unwrap_or(DataType::Null)
}

fn sole_type(collection: &DataType) -> DataType {
    multiset::element(collection)
        .cloned()
        .unwrap_or_else(|| element_type(collection))
}

fn map_value_type(given: &[DataType]) -> DataType {
    key_and_value(&given[0]).map_or(DataType::Null, |(_, value)| value.clone())
}

fn array_and_position(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [list, position] if position.is_integer() || position.is_null() => {
            Ok(vec![list_of(element_of(list)?.clone()), DataType::Int64])
        }
        [_, other] => plan_err!(
            "takes an integer as the position in an ARRAY, not {}",
            sql_type::name(other)
        ),
        _ => plan_err!("takes an array and a position, not {} arguments", given.len()),
    }
}

fn array_or_multiset(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [multiset] if multiset::element(multiset).is_some() => Ok(given.to_vec()),
        [list] => Ok(vec![list_of(element_of(list)?.clone())]),
        _ => plan_err!("takes an array or multiset, not {} arguments", given.len()),
    }
}

/// Accepts a map and a key. An integer of another width is left as it is: one that does not fit is no key.
fn map_and_key(given: &[DataType]) -> Result<Vec<DataType>> {
    let [map, key] = given else {
        return plan_err!("takes a map and a key, not {} arguments", given.len());
    };
    let (expected, _) = key_and_value(map)?;
    let accepted = match (expected, key) {
        (expected, key) if expected.is_integer() && key.is_integer() => key.clone(),
        (expected, key) if common(expected, key).is_ok_and(|common| common == *expected) => expected.clone(),
        _ => {
            let (expected, key) = (sql_type::name(expected), sql_type::name(key));
            return plan_err!("has keys of the type {expected}, not {key}: write CAST(... AS {expected})");
        }
    };
    Ok(vec![map.clone(), accepted])
}

fn entries(given: &[DataType]) -> Result<Vec<DataType>> {
    let (mut key, mut value) = (DataType::Null, DataType::Null);
    for entry in given.chunks(2) {
        let [given_key, given_value] = entry else {
            return plan_err!("takes a value for each key");
        };
        key = common(&key, given_key)?;
        value = common(&value, given_value)?;
    }
    let entry = [key, value].into_iter();
    Ok(entry.cycle().take(given.len()).collect())
}

fn map_type(given: &[DataType]) -> DataType {
    match given {
        [key, value, ..] => map_of(key.clone(), value.clone()),
        _ => map_of(DataType::Null, DataType::Null),
    }
}

fn key_and_value_arrays(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [keys, values] => Ok(vec![
            list_of(element_of(keys)?.clone()),
            list_of(element_of(values)?.clone()),
        ]),
        _ => plan_err!(
            "takes an array of keys and an array of values, not {} arguments",
            given.len()
        ),
    }
}

fn arrays_map_type(given: &[DataType]) -> DataType {
    map_of(element_type(&given[0]), element_type(&given[1]))
}

/// Accepts maps of one type of keys and one type of values.
fn maps(given: &[DataType]) -> Result<Vec<DataType>> {
    let (mut key, mut value) = (DataType::Null, DataType::Null);
    for map in given.iter().filter(|map| !map.is_null()) {
        let (given_key, given_value) = key_and_value(map)?;
        key = common(&key, given_key)?;
        value = common(&value, given_value)?;
    }
    match given {
        [] => plan_err!("takes at least 1 argument"),
        _ => Ok(vec![map_of(key, value); given.len()]),
    }
}

fn element(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (lists, positions) = (array(arguments, 0)?, array(arguments, 1)?);
    let (lists, positions) = (lists.as_list::<i32>(), positions.as_primitive::<Int64Type>());
    let offsets = lists.value_offsets();
    let indices = (0..lists.len()).map(|row| {
        if lists.is_null(row) || positions.is_null(row) {
            return None;
        }
        let position = positions.value(row);
        let length = i64::from(offsets[row + 1] - offsets[row]);
        let offset = (1..=length)
            .contains(&position)
            .then(|| i32::try_from(position - 1).ok())?;
        offset.map(|offset| offsets[row] + offset)
    });
    let indices: Int32Array = indices.collect();
    Ok(ColumnarValue::Array(take(lists.values(), &indices, None)?))
}

fn sole_element(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let collections = array(arguments, 0)?;
    let (offsets, elements, counts) = match collections.as_map_opt() {
        Some(maps) => (maps.value_offsets(), maps.keys(), Some(multiset::cardinalities(maps))),
        None => {
            let lists = collections.as_list::<i32>();
            (lists.value_offsets(), lists.values(), None)
        }
    };
    let indices = (0..collections.len()).map(|row| {
        if collections.is_null(row) {
            return Ok(None);
        }
        let count = match &counts {
            Some(counts) => counts.value(row),
            None => offsets[row + 1] - offsets[row],
        };
        match count {
            0 => Ok(None),
            1 => Ok(Some(offsets[row])),
            more => exec_err!("ELEMENT takes an array or multiset of one element, but this one has {more}"),
        }
    });
    let indices = indices.collect::<Result<Int32Array>>()?;
    Ok(ColumnarValue::Array(take(elements, &indices, None)?))
}

fn value_of_key(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let maps = array(arguments, 0)?;
    let maps = maps.as_map();
    let (wanted, is_constant) = match &arguments.args[1] {
        ColumnarValue::Array(keys) => (keys.clone(), false),
        ColumnarValue::Scalar(key) => (key.to_array()?, true),
    };
    // A number that the type of the keys cannot hold becomes NULL, which is no key.
    let wanted = cast(&wanted, maps.keys().data_type())?;
    let compare = make_comparator(maps.keys(), &wanted, SortOptions::default())?;
    let offsets = maps.value_offsets();
    let indices = (0..maps.len()).map(|row| {
        let wanted_row = if is_constant { 0 } else { row };
        if maps.is_null(row) || wanted.is_null(wanted_row) {
            return None;
        }
        let mut entries = (offsets[row]..offsets[row + 1]).rev();
        entries.find(|entry| compare(*entry as usize, wanted_row).is_eq())
    });
    let indices: Int32Array = indices.collect();
    Ok(ColumnarValue::Array(take(maps.values(), &indices, None)?))
}

/// Keys or values of maps: arrays that entries are taken from.
struct Sources {
    keys: Vec<ArrayRef>,
    values: Vec<ArrayRef>,
}

impl Sources {
    /// Returns the keys in a form that can be hashed.
    fn comparable_keys(&self) -> Result<Vec<Rows>> {
        let Some(first) = self.keys.first() else {
            return Ok(Vec::new());
        };
        let converter = RowConverter::new(vec![SortField::new(first.data_type().clone())])?;
        let rows = self
            .keys
            .iter()
            .map(|keys| converter.convert_columns(std::slice::from_ref(keys)));
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// Builds a map per row out of the entries that are given as the index of a source and of an entry in it.
    fn build(&self, rows: Vec<Option<Vec<(usize, usize)>>>, map_type: &DataType) -> Result<ColumnarValue> {
        let comparable = self.comparable_keys()?;
        let mut positions: HashMap<&[u8], usize> = HashMap::new();
        let (mut chosen_keys, mut chosen_values) = (Vec::new(), Vec::new());
        let mut offsets: Vec<i32> = vec![0];
        let mut valid = Vec::with_capacity(rows.len());
        for entries in &rows {
            positions.clear();
            valid.push(entries.is_some());
            for &(source, entry) in entries.iter().flatten() {
                if self.keys[source].is_null(entry) {
                    return exec_err!("a key of a MAP is NULL: leave the entry out, or replace the key with COALESCE");
                }
                let next = chosen_keys.len();
                let position = *positions.entry(comparable[source].row(entry).data()).or_insert(next);
                if position == next {
                    chosen_keys.push((source, entry));
                    chosen_values.push((source, entry));
                } else {
                    chosen_values[position] = (source, entry);
                }
            }
            match i32::try_from(chosen_keys.len()) {
                Ok(end) => offsets.push(end),
                Err(_) => return exec_err!("the maps of a batch have more than 2,147,483,647 entries"),
            }
        }
        let DataType::Map(field, is_sorted) = map_type else {
            return exec_err!("a map was expected");
        };
        let DataType::Struct(fields) = field.data_type() else {
            return exec_err!("a map has entries");
        };
        let columns = vec![
            gather(&self.keys, &chosen_keys, fields[0].data_type())?,
            gather(&self.values, &chosen_values, fields[1].data_type())?,
        ];
        let entries = StructArray::try_new(fields.clone(), columns, None)?;
        let nulls = Some(NullBuffer::from(valid));
        let offsets = OffsetBuffer::new(offsets.into());
        let map = MapArray::try_new(field.clone(), offsets, entries, nulls, *is_sorted)?;
        Ok(ColumnarValue::Array(Arc::new(map)))
    }
}

fn gather(sources: &[ArrayRef], chosen: &[(usize, usize)], data_type: &DataType) -> Result<ArrayRef> {
    if chosen.is_empty() {
        return Ok(new_empty_array(data_type));
    }
    let sources: Vec<&dyn Array> = sources.iter().map(AsRef::as_ref).collect();
    Ok(interleave(&sources, chosen)?)
}

fn construct(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let arrays = (0..arguments.args.len()).map(|index| array(arguments, index));
    let arrays = arrays.collect::<Result<Vec<_>>>()?;
    let sources = Sources {
        keys: arrays.iter().step_by(2).cloned().collect(),
        values: arrays.iter().skip(1).step_by(2).cloned().collect(),
    };
    let width = sources.keys.len();
    let rows = (0..arguments.number_rows).map(|row| Some((0..width).map(|source| (source, row)).collect()));
    sources.build(rows.collect(), arguments.return_type())
}

fn from_arrays(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (keys, values) = (array(arguments, 0)?, array(arguments, 1)?);
    let (keys, values) = (keys.as_list::<i32>(), values.as_list::<i32>());
    let (key_offsets, value_offsets) = (keys.value_offsets(), values.value_offsets());
    // Keys and values are at different positions, so the values are brought to those of the keys.
    let mut indices: Vec<Option<i32>> = vec![None; keys.values().len()];
    let mut rows = Vec::with_capacity(arguments.number_rows);
    for row in 0..arguments.number_rows {
        if keys.is_null(row) || values.is_null(row) {
            rows.push(None);
            continue;
        }
        let range = key_offsets[row]..key_offsets[row + 1];
        let length = value_offsets[row + 1] - value_offsets[row];
        if range.end - range.start != length {
            return exec_err!(
                "MAP_FROM_ARRAYS takes as many keys as values, but there are {} keys and {length} values",
                range.end - range.start
            );
        }
        for (entry, value) in range.clone().zip(value_offsets[row]..) {
            indices[entry as usize] = Some(value);
        }
        rows.push(Some(range.map(|entry| (0, entry as usize)).collect()));
    }
    let sources = Sources {
        keys: vec![keys.values().clone()],
        values: vec![take(values.values(), &Int32Array::from(indices), None)?],
    };
    sources.build(rows, arguments.return_type())
}

fn union(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let arrays = (0..arguments.args.len()).map(|index| array(arguments, index));
    let arrays = arrays.collect::<Result<Vec<_>>>()?;
    let maps: Vec<&MapArray> = arrays.iter().map(|array| array.as_map()).collect();
    let sources = Sources {
        keys: maps.iter().map(|map| map.keys().clone()).collect(),
        values: maps.iter().map(|map| map.values().clone()).collect(),
    };
    let rows = (0..arguments.number_rows).map(|row| {
        if maps.iter().any(|map| map.is_null(row)) {
            return None;
        }
        let entries = maps.iter().enumerate().flat_map(|(source, map)| {
            let offsets = map.value_offsets();
            (offsets[row]..offsets[row + 1]).map(move |entry| (source, entry as usize))
        });
        Some(entries.collect())
    });
    sources.build(rows.collect(), arguments.return_type())
}
