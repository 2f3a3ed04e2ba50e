//! Unique keys of maps: of several entries with one key, the last one counts.
//!
//! JSON objects, Kafka headers and Parquet's maps may repeat a key; a MAP of SQL has each key once. As in Java's maps,
//! the entry has the position of the first and the value of the last.

use std::hash::Hash;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, StructArray, UInt32Array};
use arrow_buffer::{ArrowNativeType, OffsetBuffer};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;

use crate::{Error, multiset};

/// Largest number of entries of a map whose keys are compared one by one; larger maps use a hash table.
const COMPARED_MAX: usize = 8;

/// Returns the maps with each key once; multisets in their [form](multiset::canonical).
pub(crate) fn last_of_each(maps: MapArray) -> Result<MapArray, Error> {
    let (keys, offsets) = (maps.keys(), maps.offsets());
    let unique = match keys.data_type() {
        DataType::Utf8 => {
            let keys = keys.as_string::<i32>();
            unique(offsets, |entry| keys.value(entry))
        }
        DataType::Binary => {
            let keys = keys.as_binary::<i32>();
            unique(offsets, |entry| keys.value(entry))
        }
        _ => {
            let options = FormatOptions::new();
            let texts = ArrayFormatter::try_new(keys, &options)?;
            let texts: Vec<String> = (0..keys.len())
                .map(|entry| match texts.value(entry).to_string() {
                    zero if zero == "-0.0" => "0.0".to_owned(),
                    text => text,
                })
                .collect();
            unique(offsets, |entry| texts[entry].as_str())
        }
    };
    let unique = match unique {
        Some((offsets, entries)) => {
            let (field, _, all, nulls, ordered) = maps.into_parts();
            let entries = arrow_select::take::take(&all, &entries, None)?;
            let entries = entries.as_struct().clone();
            MapArray::try_new(field, offsets, entries, nulls, ordered)?
        }
        None => maps,
    };
    match multiset::element(unique.data_type()) {
        Some(_) => Ok(multiset::canonical(&unique)?),
        None => Ok(unique),
    }
}

/// Returns a column with each key of its maps once, at any nesting depth.
pub(crate) fn unique_keys(column: &ArrayRef) -> Result<ArrayRef, Error> {
    if !has_map(column.data_type()) {
        return Ok(Arc::clone(column));
    }
    Ok(match column.data_type() {
        DataType::Map(..) => {
            let (field, offsets, entries, nulls, ordered) = column.as_map().clone().into_parts();
            let entries = unique_keys(&(Arc::new(entries) as ArrayRef))?.as_struct().clone();
            Arc::new(last_of_each(MapArray::try_new(
                field, offsets, entries, nulls, ordered,
            )?)?)
        }
        DataType::List(_) => {
            let (field, offsets, values, nulls) = column.as_list::<i32>().clone().into_parts();
            Arc::new(ListArray::try_new(field, offsets, unique_keys(&values)?, nulls)?)
        }
        DataType::Struct(_) => {
            let rows = column.len();
            let (fields, columns, nulls) = column.as_struct().clone().into_parts();
            let columns = columns.iter().map(unique_keys).collect::<Result<Vec<_>, _>>()?;
            Arc::new(StructArray::try_new_with_length(fields, columns, nulls, rows)?)
        }
        _ => Arc::clone(column),
    })
}

fn has_map(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) => true,
        DataType::List(item) => has_map(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_map(field.data_type())),
        _ => false,
    }
}

/// Returns the offsets of each map and its entries, if a key is repeated in some map.
fn unique<K: Eq + Hash>(
    offsets: &OffsetBuffer<i32>,
    key: impl Fn(usize) -> K,
) -> Option<(OffsetBuffer<i32>, UInt32Array)> {
    let total = offsets.last()?.as_usize() - offsets.first()?.as_usize();
    let mut kept: Vec<u32> = Vec::with_capacity(total);
    let mut ends: Vec<i32> = Vec::with_capacity(offsets.len());
    let mut places = ahash::AHashMap::new();
    ends.push(0);
    for map in offsets.windows(2) {
        let (entries, first) = (map[0].as_usize()..map[1].as_usize(), kept.len());
        let is_compared = entries.len() <= COMPARED_MAX;
        places.clear();
        for entry in entries {
            let known = if is_compared {
                let is_same = |other: &u32| key(*other as usize) == key(entry);
                kept[first..].iter().position(is_same).map(|at| first + at)
            } else {
                let next = kept.len();
                Some(*places.entry(key(entry)).or_insert(next)).filter(|place| *place < next)
            };
            // Entries of one batch are numbered by 32 bits.
            match known {
                Some(place) => kept[place] = entry as u32,
                None => kept.push(entry as u32),
            }
        }
        ends.push(kept.len() as i32);
    }
    (kept.len() < total).then(|| (OffsetBuffer::new(ends.into()), UInt32Array::from(kept)))
}

#[cfg(test)]
mod tests {
    use arrow_array::Int32Array;
    use arrow_array::builder::{Float64Builder, Int32Builder, ListBuilder, MapBuilder, StringBuilder};

    use arrow_array::types::Int32Type;

    use super::*;

    fn counts(maps: &MapArray) -> Vec<Vec<(String, i32)>> {
        (0..maps.len())
            .map(|row| {
                let entries = maps.value(row);
                let keys = arrow_cast::cast(entries.column(0), &DataType::Utf8).unwrap();
                let values: &Int32Array = entries.column(1).as_primitive::<Int32Type>();
                let keys = keys.as_string::<i32>().iter().map(|key| key.unwrap().to_owned());
                keys.zip(values.values().iter().copied()).collect()
            })
            .collect()
    }

    #[track_caller]
    fn check(maps: &[&[(&str, i32)]], expected: &[&[(&str, i32)]]) {
        let mut builder = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        for map in maps {
            for (key, value) in *map {
                builder.keys().append_value(key);
                builder.values().append_value(*value);
            }
            builder.append(true).unwrap();
        }
        let maps = builder.finish();
        let expected: Vec<Vec<(String, i32)>> = expected
            .iter()
            .map(|map| map.iter().map(|(key, value)| (key.to_string(), *value)).collect())
            .collect();
        assert_eq!(counts(&last_of_each(maps.clone()).unwrap()), expected);
        for from in 0..maps.len() {
            let part = maps.slice(from, maps.len() - from);
            assert_eq!(counts(&last_of_each(part).unwrap()), expected[from..]);
        }
    }

    #[test]
    fn of_entries_with_one_key_the_last_counts() {
        check(&[], &[]);
        check(
            &[&[], &[("a", 1)], &[("a", 1), ("b", 2)]],
            &[&[], &[("a", 1)], &[("a", 1), ("b", 2)]],
        );
        check(
            &[
                &[("a", 0)],
                &[("a", 1), ("b", 2), ("a", 3)],
                &[("b", 4), ("b", 5), ("b", 6)],
                &[("b", 7)],
            ],
            &[&[("a", 0)], &[("a", 3), ("b", 2)], &[("b", 6)], &[("b", 7)]],
        );
        let names: Vec<String> = (0..40).map(|key| format!("k{}", key % 15)).collect();
        let many: Vec<(&str, i32)> = names.iter().map(String::as_str).zip(0..40).collect();
        let last: Vec<(&str, i32)> = (0..15)
            .map(|key| (names[key].as_str(), if key < 10 { 30 } else { 15 } + key as i32))
            .collect();
        check(&[&many, &many[..3]], &[&last, &many[..3]]);
    }

    #[test]
    fn zeros_are_one_key_and_maps_within_arrays_have_unique_keys_too() {
        let maps = MapBuilder::new(None, Float64Builder::new(), Int32Builder::new());
        let mut lists = ListBuilder::new(maps);
        for (key, value) in [(0.0, 1), (-0.0, 2), (f64::NAN, 3), (-f64::NAN, 4)] {
            lists.values().keys().append_value(key);
            lists.values().values().append_value(value);
        }
        lists.values().append(true).unwrap();
        lists.append(true);
        let lists: ArrayRef = Arc::new(lists.finish());
        let lists = unique_keys(&lists).unwrap();
        let expected = vec![vec![("0.0".to_owned(), 2), ("NaN".to_owned(), 4)]];
        let found = counts(lists.as_list::<i32>().values().as_map());
        let found: Vec<Vec<(String, i32)>> = found
            .into_iter()
            .map(|map| {
                map.into_iter()
                    .map(|(key, value)| (key.trim_start_matches('-').to_owned(), value))
                    .collect()
            })
            .collect();
        assert_eq!(found, expected);
    }
}
