//! Lossless conversions between column types.
//!
//! Some conversions preserve every value, by their types alone. Others preserve some values only (`DOUBLE` to `INT`):
//! they are applied and reversed, and a value that differs afterwards is an error. Numbers and times are never
//! converted into one another, because a number does not define its unit.
//!
//! The fields of a `ROW` are matched by name at every depth: a field that the column does not have is NULL, and one
//! that the declared type does not have is dropped.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, LargeListArray, ListArray, MapArray, StructArray, new_null_array,
};
use arrow_cast::{CastOptions, can_cast_types, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, TimeUnit};

/// Returns true if a conversion may be attempted.
pub(crate) fn is_possible(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Struct(found), DataType::Struct(wanted)) => {
            wanted.iter().all(
                |wanted| match found.iter().find(|field| field.name() == wanted.name()) {
                    Some(field) => is_possible(field.data_type(), wanted.data_type()),
                    None => wanted.is_nullable(),
                },
            )
        }
        (DataType::Map(found, _), DataType::Map(wanted, _)) => match (entry_types(found), entry_types(wanted)) {
            (Some((key, value)), Some((wanted_key, wanted_value))) => {
                is_possible(key, wanted_key) && is_possible(value, wanted_value)
            }
            _ => false,
        },
        _ => match (element_type(from), element_type(to)) {
            (Some(found), Some(wanted)) => is_possible(found, wanted),
            _ => {
                let mixes = |a: &DataType, b: &DataType| a.is_numeric() && b.is_temporal();
                can_cast_types(from, to) && !mixes(from, to) && !mixes(to, from)
            }
        },
    }
}

/// Returns the type of the elements of an array type.
fn element_type(list: &DataType) -> Option<&DataType> {
    match list {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            Some(element.data_type())
        }
        _ => None,
    }
}

/// Returns the types of the keys and values of a map with these entries.
fn entry_types(entries: &Field) -> Option<(&DataType, &DataType)> {
    match entries.data_type() {
        DataType::Struct(fields) => Some((fields.first()?.data_type(), fields.get(1)?.data_type())),
        _ => None,
    }
}

/// Returns true if a conversion preserves every value of the type.
pub(crate) fn preserves_every_value(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Decimal128, Float16, Float32, Float64, LargeBinary, LargeUtf8, Timestamp,
        Utf8, Utf8View,
    };
    match (from, to) {
        _ if from == to => true,
        (DataType::Null, _) => true,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => true,
        (Float16, Float32 | Float64) | (Float32, Float64) => true,
        (Timestamp(from, _), Timestamp(to, _)) => ticks(to) >= ticks(from),
        (Date32 | Date64, Timestamp(..)) => true,
        (Decimal128(precision, scale), Decimal128(wider, finer)) => {
            finer >= scale && i16::from(*wider) - i16::from(*finer) >= i16::from(*precision) - i16::from(*scale)
        }
        (from, Float64) if from.is_integer() => integer_bits(from) <= 32,
        (from, Float32) if from.is_integer() => integer_bits(from) <= 16,
        (from, to) if from.is_integer() && to.is_integer() => {
            match (from.is_signed_integer(), to.is_signed_integer()) {
                (true, true) | (false, false) => integer_bits(to) >= integer_bits(from),
                (false, true) => integer_bits(to) > integer_bits(from),
                (true, false) => false,
            }
        }
        _ => false,
    }
}

/// Converts a column to another type. The error names the first value that would change.
pub(crate) fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    if column.data_type() == to {
        return Ok(column.clone());
    }
    let column = &match_fields(column, to)?;
    let from = column.data_type();
    if from == to {
        return Ok(column.clone());
    }
    let converted = strictly(column, to).map_err(|error| error.to_string())?;
    // A parsed number or time may be formatted in another spelling than the text had, so the reverse does not compare.
    if preserves_every_value(from, to) || from.is_string() || !can_cast_types(to, from) {
        return Ok(converted);
    }
    let back = strictly(&converted, from).map_err(|error| error.to_string())?;
    if back.to_data() == column.to_data() {
        return Ok(converted);
    }
    let differs = (0..column.len()).find(|row| back.slice(*row, 1).to_data() != column.slice(*row, 1).to_data());
    let value = strictly(&column.slice(differs.unwrap_or(0), 1), &DataType::Utf8)
        .ok()
        .and_then(|text| {
            let text = text.as_any().downcast_ref::<arrow_array::StringArray>()?;
            text.is_valid(0).then(|| text.value(0).to_owned())
        })
        .unwrap_or_else(|| "a value".to_owned());
    Err(format!(
        "{value} is {from} in the file and cannot be the declared {} without loss",
        crate::sql_type::name(to)
    ))
}

/// Gives the structs of a column the fields of the declared type, in its order, with their own types.
fn match_fields(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    let failed = |error: ArrowError| error.to_string();
    Ok(match (column.data_type(), to) {
        (DataType::Struct(found), DataType::Struct(wanted)) => {
            let rows = column.as_struct();
            let mut fields: Vec<FieldRef> = Vec::with_capacity(wanted.len());
            let mut columns: Vec<ArrayRef> = Vec::with_capacity(wanted.len());
            for wanted in wanted {
                let matched = match found.iter().position(|field| field.name() == wanted.name()) {
                    Some(index) => match_fields(rows.column(index), wanted.data_type())?,
                    None => new_null_array(wanted.data_type(), rows.len()),
                };
                fields.push(Arc::new(Field::new(wanted.name(), matched.data_type().clone(), true)));
                columns.push(matched);
            }
            let nulls = rows.nulls().cloned();
            Arc::new(StructArray::try_new_with_length(fields.into(), columns, nulls, rows.len()).map_err(failed)?)
        }
        (DataType::Map(entries, sorted), DataType::Map(wanted, _)) => {
            let (map, wanted) = (column.as_map(), entry_types(wanted));
            let Some((wanted_key, wanted_value)) = wanted else {
                return Ok(column.clone());
            };
            let keys = match_fields(map.keys(), wanted_key)?;
            let values = match_fields(map.values(), wanted_value)?;
            let (key, value) = map.entries_fields();
            let fields: Vec<FieldRef> = vec![
                Arc::new(key.clone().with_data_type(keys.data_type().clone())),
                Arc::new(value.clone().with_data_type(values.data_type().clone())),
            ];
            let rows = StructArray::try_new(fields.into(), vec![keys, values], None).map_err(failed)?;
            let entries = Field::new(entries.name(), rows.data_type().clone(), entries.is_nullable());
            let nulls = map.nulls().cloned();
            Arc::new(MapArray::try_new(entries.into(), map.offsets().clone(), rows, nulls, *sorted).map_err(failed)?)
        }
        (from, to) => {
            let Some(wanted) = element_type(to) else {
                return Ok(column.clone());
            };
            let element = |values: &ArrayRef| Arc::new(Field::new_list_field(values.data_type().clone(), true));
            let nulls = column.nulls().cloned();
            match from {
                DataType::List(_) => {
                    let list = column.as_list::<i32>();
                    let values = match_fields(list.values(), wanted)?;
                    let list = ListArray::try_new(element(&values), list.offsets().clone(), values, nulls);
                    Arc::new(list.map_err(failed)?)
                }
                DataType::LargeList(_) => {
                    let list = column.as_list::<i64>();
                    let values = match_fields(list.values(), wanted)?;
                    let list = LargeListArray::try_new(element(&values), list.offsets().clone(), values, nulls);
                    Arc::new(list.map_err(failed)?)
                }
                DataType::FixedSizeList(_, length) => {
                    let values = match_fields(column.as_fixed_size_list().values(), wanted)?;
                    let list = FixedSizeListArray::try_new(element(&values), *length, values, nulls);
                    Arc::new(list.map_err(failed)?)
                }
                _ => column.clone(),
            }
        }
    })
}

fn strictly(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, to, &strict)
}

fn integer_bits(integer: &DataType) -> usize {
    integer.primitive_width().unwrap_or(0) * 8
}

fn ticks(unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Decimal128Array, Float64Array, Int64Array, StringArray, TimestampNanosecondArray};

    use super::*;

    #[track_caller]
    fn check(column: impl Array + 'static, to: DataType, lost: Option<&str>) {
        let column: ArrayRef = Arc::new(column);
        match (convert(&column, &to), lost) {
            (Ok(converted), None) => assert_eq!(converted.data_type(), &to),
            (Err(error), Some(value)) => assert!(error.starts_with(value), "{error}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn a_value_that_would_be_lost_is_named() {
        check(Float64Array::from(vec![Some(2.0), None]), DataType::Int32, None);
        check(Float64Array::from(vec![2.0, 1.75]), DataType::Int32, Some("1.75"));
        check(
            Int64Array::from(vec![1, 9_007_199_254_740_993]),
            DataType::Float64,
            Some("9007199254740993"),
        );
        check(Int64Array::from(vec![1, 5]), DataType::Boolean, Some("5"));
        check(
            Int64Array::from(vec![1, 1 << 40]),
            DataType::Int32,
            Some("Cast error: Can't cast value 1099511627776"),
        );
        let cents = |cents| {
            Decimal128Array::from(vec![cents])
                .with_precision_and_scale(9, 3)
                .unwrap()
        };
        check(cents(1_230), DataType::Decimal128(5, 1), Some("1.230"));
        check(cents(1_200), DataType::Decimal128(5, 1), None);
        let times = |ns| TimestampNanosecondArray::from(vec![Some(ns), None]);
        check(times(1_000), DataType::Timestamp(TimeUnit::Microsecond, None), None);
        check(
            times(1_001),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            Some("1970-01-01T00:00:00.000001001"),
        );
        check(times(1_000), DataType::Date32, Some("1970-01-01T00:00:00.000001"));
        check(StringArray::from(vec!["007"]), DataType::Int32, None);
    }

    fn row(fields: Vec<(&str, ArrayRef)>) -> StructArray {
        let (fields, columns): (Vec<FieldRef>, Vec<ArrayRef>) = fields
            .into_iter()
            .map(|(name, column)| {
                let field: FieldRef = Arc::new(Field::new(name, column.data_type().clone(), true));
                (field, column)
            })
            .unzip();
        StructArray::new(fields.into(), columns, None)
    }

    fn ints(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    #[test]
    fn fields_are_matched_by_name_at_every_depth() {
        let int = |name: &str| Field::new(name, DataType::Int32, true);
        let wanted = DataType::Struct(vec![int("b"), int("c")].into());
        let found = || row(vec![("a", ints(&[1, 2])), ("b", ints(&[3, 4]))]);
        let expected = "[{b: 3, c: }, {b: 4, c: }]";
        let text = |array: &dyn Array| {
            let options = arrow_cast::display::FormatOptions::default();
            let format = arrow_cast::display::ArrayFormatter::try_new(array, &options).unwrap();
            let values: Vec<String> = (0..array.len()).map(|row| format.value(row).to_string()).collect();
            values.join("; ")
        };
        let check = |column: ArrayRef, to: &DataType, expected: &str| {
            assert!(is_possible(column.data_type(), to));
            let converted = convert(&column, to).unwrap();
            assert_eq!(converted.data_type(), to);
            assert_eq!(text(&converted), expected);
        };
        check(Arc::new(found()), &wanted, "{b: 3, c: }; {b: 4, c: }");
        let list = |values: StructArray| {
            let element = Arc::new(Field::new("item", values.data_type().clone(), true));
            ListArray::new(
                element,
                arrow_buffer::OffsetBuffer::from_lengths([2]),
                Arc::new(values),
                None,
            )
        };
        let lists = DataType::List(Arc::new(Field::new("element", wanted.clone(), true)));
        check(Arc::new(list(found())), &lists, expected);
        let nested = row(vec![("x", Arc::new(list(found())) as ArrayRef)]);
        let rows = DataType::Struct(vec![int("n"), Field::new("x", lists, true)].into());
        check(Arc::new(nested), &rows, &format!("{{n: , x: {expected}}}"));
        // Fields in another order, of another type each.
        let swapped = row(vec![("c", ints(&[7])), ("b", Arc::new(StringArray::from(vec!["8"])))]);
        check(Arc::new(swapped), &wanted, "{b: 8, c: 7}");
    }

    #[test]
    fn a_missing_field_that_must_not_be_null_cannot_be_converted() {
        let wanted = DataType::Struct(vec![Field::new("b", DataType::Int64, false)].into());
        let found = row(vec![("a", ints(&[1]))]);
        assert!(!is_possible(found.data_type(), &wanted));
    }

    #[test]
    fn numbers_are_not_converted_to_times() {
        assert!(!is_possible(&DataType::Int32, &DataType::Date32));
        assert!(!is_possible(
            &DataType::Timestamp(TimeUnit::Microsecond, None),
            &DataType::Int64
        ));
        assert!(is_possible(
            &DataType::Date32,
            &DataType::Timestamp(TimeUnit::Microsecond, None)
        ));
    }
}
