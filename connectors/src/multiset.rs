//! Values of the type `MULTISET<t>`: maps from each element to the number of its occurrences.
//!
//! Equal multisets are equal maps: an element is one entry, entries are sorted by their elements, and numbers are
//! positive. [`of_lists`] makes them of the elements, [`canonical`] of maps that were read. The entries have a name of
//! their own in the Arrow type, so that a `MAP<t, INT>` is another type.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, Int32Array, ListArray, MapArray, StructArray, UInt32Array};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_ord::ord::make_comparator;
use arrow_schema::{ArrowError, DataType, Field, Fields, SortOptions};

/// Name of the entries in the Arrow type.
const ENTRIES: &str = "multiset";

/// Returns the Arrow type of multisets of elements of a type.
pub fn of(element: DataType) -> DataType {
    let fields = Fields::from(vec![
        Field::new("element", element, false),
        Field::new("count", DataType::Int32, false),
    ]);
    DataType::Map(Arc::new(Field::new(ENTRIES, DataType::Struct(fields), false)), false)
}

/// Returns the type of the elements of a multiset; `None` for other types.
pub fn element(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::Map(entries, _) if entries.name() == ENTRIES => match entries.data_type() {
            DataType::Struct(fields) => fields.first().map(|field| field.data_type()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the multisets of the elements of lists that are not NULL; a NULL list gives an empty multiset. Fails for
/// elements that cannot be compared.
pub fn of_lists(lists: &ListArray) -> Result<MapArray, ArrowError> {
    let (elements, offsets) = (lists.values(), lists.value_offsets());
    let rows = (0..lists.len()).map(|row| {
        let range = match lists.is_null(row) {
            true => 0..0,
            false => offsets[row] as usize..offsets[row + 1] as usize,
        };
        Some(range.filter(|at| elements.is_valid(*at)).map(|at| (at, 1)).collect())
    });
    build(elements, rows)
}

/// Returns multisets in the form that makes equal ones equal. Fails for numbers of occurrences below 1.
pub fn canonical(maps: &MapArray) -> Result<MapArray, ArrowError> {
    let offsets = maps.value_offsets();
    let counts = maps.values().as_primitive::<Int32Type>();
    let rows = (0..maps.len()).map(|row| {
        let range = offsets[row] as usize..offsets[row + 1] as usize;
        let entries = range.map(|at| (at, i64::from(counts.value(at))));
        maps.is_valid(row).then(|| entries.collect())
    });
    build(maps.keys(), rows)
}

/// Returns the number of elements of each multiset, with repetitions.
pub fn cardinalities(maps: &MapArray) -> Int32Array {
    let counts = maps.values().as_primitive::<Int32Type>().values();
    let sums = maps.value_offsets().windows(2).map(|ends| {
        let counts = &counts[ends[0] as usize..ends[1] as usize];
        // `build` refuses greater sums.
        counts.iter().fold(0_i32, |sum, count| sum.saturating_add(*count))
    });
    Int32Array::new(sums.collect(), maps.nulls().cloned())
}

/// Makes multisets of the positions and numbers of their elements.
fn build(elements: &ArrayRef, rows: impl Iterator<Item = Option<Vec<(usize, i64)>>>) -> Result<MapArray, ArrowError> {
    let compare = make_comparator(elements, elements, SortOptions::default())?;
    let too_large = || ArrowError::ComputeError("a MULTISET has more than 2,147,483,647 elements".to_owned());
    let (mut positions, mut counts) = (Vec::<u32>::new(), Vec::<i32>::new());
    let (mut offsets, mut valid) = (vec![0_i32], Vec::new());
    for row in rows {
        valid.push(row.is_some());
        let mut entries = row.unwrap_or_default();
        entries.sort_unstable_by(|(left, _), (right, _)| compare(*left, *right).then(left.cmp(right)));
        let total: i64 = entries.iter().map(|(_, count)| *count).sum();
        i32::try_from(total).map_err(|_| too_large())?;
        let mut rest = entries.as_slice();
        while let Some((first, _)) = rest.first() {
            let end = rest.iter().position(|(other, _)| compare(*first, *other).is_ne());
            let (same, others) = rest.split_at(end.unwrap_or(rest.len()));
            let count: i64 = same.iter().map(|(_, count)| *count).sum();
            if count < 1 {
                return Err(ArrowError::ComputeError(format!(
                    "a MULTISET has an element {count} times: it has each at least once"
                )));
            }
            positions.push(u32::try_from(*first).map_err(|_| too_large())?);
            counts.push(i32::try_from(count).map_err(|_| too_large())?);
            rest = others;
        }
        offsets.push(i32::try_from(positions.len()).map_err(|_| too_large())?);
    }
    let chosen = arrow_select::take::take(elements, &UInt32Array::from(positions), None)?;
    let data_type = of(elements.data_type().clone());
    let DataType::Map(field, is_sorted) = data_type else {
        return Err(ArrowError::SchemaError("a multiset is a map".to_owned()));
    };
    let DataType::Struct(fields) = field.data_type().clone() else {
        return Err(ArrowError::SchemaError("a multiset has entries".to_owned()));
    };
    let entries = StructArray::try_new(fields, vec![chosen, Arc::new(Int32Array::from(counts))], None)?;
    let nulls = Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
    MapArray::try_new(field, OffsetBuffer::new(offsets.into()), entries, nulls, is_sorted)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow_array::StringArray;
    use arrow_array::builder::{Int64Builder, ListBuilder};
    use proptest::prelude::*;

    use super::*;

    fn lists(rows: &[Option<Vec<Option<i64>>>]) -> ListArray {
        let mut builder = ListBuilder::new(Int64Builder::new());
        for row in rows {
            match row {
                Some(row) => builder.append_value(row.iter().copied()),
                None => builder.append_null(),
            }
        }
        builder.finish()
    }

    fn counted(maps: &MapArray) -> Vec<Vec<(i64, i32)>> {
        (0..maps.len())
            .map(|row| {
                let entries = maps.value(row);
                let elements = entries.column(0).as_primitive::<arrow_array::types::Int64Type>();
                let counts = entries.column(1).as_primitive::<Int32Type>();
                elements
                    .values()
                    .iter()
                    .copied()
                    .zip(counts.values().iter().copied())
                    .collect()
            })
            .collect()
    }

    proptest! {
        #[test]
        fn equal_elements_give_equal_multisets(
            rows in prop::collection::vec(prop::option::of(prop::collection::vec(prop::option::of(-3..3_i64), 0..9)), 0..6),
        ) {
            let expected: Vec<Vec<(i64, i32)>> = rows
                .iter()
                .map(|row| {
                    let mut counts = BTreeMap::new();
                    for element in row.iter().flatten().flatten() {
                        *counts.entry(*element).or_insert(0) += 1;
                    }
                    counts.into_iter().collect()
                })
                .collect();
            let maps = of_lists(&lists(&rows)).unwrap();
            prop_assert_eq!(counted(&maps), expected.clone());
            prop_assert_eq!(maps.data_type(), &of(DataType::Int64));
            let sums: Vec<i32> = expected.iter().map(|row| row.iter().map(|(_, count)| count).sum()).collect();
            let cardinalities = cardinalities(&maps);
            prop_assert_eq!(cardinalities.values().to_vec(), sums);
            let reversed: Vec<_> = rows
                .iter()
                .map(|row| row.clone().map(|row| row.into_iter().rev().collect::<Vec<_>>()))
                .collect();
            prop_assert_eq!(of_lists(&lists(&reversed)).unwrap(), maps.clone());
            prop_assert_eq!(canonical(&maps).unwrap(), maps);
        }
    }

    #[test]
    fn numbers_of_occurrences_are_positive() {
        let DataType::Map(field, _) = of(DataType::Utf8) else {
            panic!("a map")
        };
        let DataType::Struct(fields) = field.data_type().clone() else {
            panic!("entries")
        };
        let maps = |counts: Vec<i32>| {
            let elements: Vec<&str> = ["b", "a", "c"][..counts.len()].to_vec();
            let length = counts.len() as i32;
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from(elements)),
                Arc::new(Int32Array::from(counts)),
            ];
            let entries = StructArray::new(fields.clone(), columns, None);
            MapArray::new(
                field.clone(),
                OffsetBuffer::new(vec![0, length].into()),
                entries,
                None,
                false,
            )
        };
        let sorted = canonical(&maps(vec![2, 1])).unwrap();
        assert_eq!(sorted.keys().as_string::<i32>().value(0), "a");
        assert!(
            canonical(&maps(vec![1, 0]))
                .unwrap_err()
                .to_string()
                .contains("0 times")
        );
        let error = canonical(&maps(vec![i32::MAX, 1])).unwrap_err().to_string();
        assert!(error.contains("2,147,483,647"), "{error}");
    }

    #[test]
    fn a_map_is_another_type() {
        let entries = Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Int32, true),
        ]);
        let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false);
        assert_eq!(element(&map), None);
        assert_eq!(element(&of(DataType::Utf8)), Some(&DataType::Utf8));
    }
}
