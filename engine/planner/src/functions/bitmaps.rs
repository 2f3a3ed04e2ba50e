//! Bitmaps: sets of 32-bit integers, as `BYTES` in the portable format of [Roaring bitmaps].
//!
//! Integers are ordered as if they had no sign, as in Flink: -1 is the last one. Equal sets have equal bytes, because
//! every result has its containers in their smallest form.
//!
//! [Roaring bitmaps]: https://github.com/RoaringBitmap/RoaringFormatSpec

use datafusion::arrow::array::{AsArray, BinaryBuilder, Int32Builder, Int64Array, ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type;
use roaring::RoaringBitmap;

use super::arrays::{element_of, list_of};
use super::scalar::{Scalar, array, array_result, bigint, utf8};

/// Most values of a bitmap that becomes an array.
const ARRAY_VALUES_MAX: u64 = 1 << 24;
/// Bytes of the text of a bitmap after which it is cut, as in Flink.
const TEXT_BYTES_MAX: usize = 0x80000;

/// Returns all functions of this module.
pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::fallible("bitmap_and", bitmaps::<2>, bytes, |arguments| {
            combine(arguments, |left, right| *left &= right)
        }),
        Scalar::fallible("bitmap_or", bitmaps::<2>, bytes, |arguments| {
            combine(arguments, |left, right| *left |= right)
        }),
        Scalar::fallible("bitmap_xor", bitmaps::<2>, bytes, |arguments| {
            combine(arguments, |left, right| *left ^= right)
        }),
        Scalar::fallible("bitmap_andnot", bitmaps::<2>, bytes, |arguments| {
            combine(arguments, |left, right| *left -= right)
        }),
        Scalar::fallible("bitmap_build", integers, bytes, build),
        Scalar::fallible("bitmap_cardinality", bitmaps::<1>, bigint, cardinality),
        Scalar::fallible("bitmap_from_bytes", bitmaps::<1>, bytes, smallest),
        Scalar::fallible("bitmap_to_bytes", bitmaps::<1>, bytes, smallest),
        Scalar::fallible("bitmap_to_array", bitmaps::<1>, |_| list_of(DataType::Int32), to_array),
        Scalar::fallible("bitmap_to_string", bitmaps::<1>, utf8, to_text),
    ]
}

/// Reads a bitmap.
pub(super) fn read(bytes: &[u8]) -> Result<RoaringBitmap> {
    match RoaringBitmap::deserialize_from(bytes) {
        Ok(bitmap) => Ok(bitmap),
        Err(_) => exec_err!(
            "the BYTES are no bitmap in the portable format of Roaring bitmaps: {} bytes",
            bytes.len()
        ),
    }
}

/// Returns the bytes of a bitmap.
pub(super) fn write(bitmap: &mut RoaringBitmap) -> Result<Vec<u8>> {
    // A container of runs that has the size of one of values would stay one, and equal sets have other bytes.
    bitmap.remove_run_compression();
    bitmap.optimize();
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    bitmap.serialize_into(&mut bytes).map_err(DataFusionError::from)?;
    Ok(bytes)
}

pub(super) fn bytes(_: &[DataType]) -> DataType {
    DataType::Binary
}

/// Accepts `N` bitmaps.
fn bitmaps<const N: usize>(given: &[DataType]) -> Result<Vec<DataType>> {
    if given.len() != N {
        return plan_err!("takes {N} bitmaps, not {} arguments", given.len());
    }
    match given.iter().find(|given| !is_bitmap(given)) {
        Some(other) => plan_err!(
            "takes a bitmap, which is of type BYTES, not {}: BITMAP_BUILD(array) makes one of an array",
            sql_type::name(other)
        ),
        None => Ok(vec![DataType::Binary; N]),
    }
}

pub(super) fn is_bitmap(given: &DataType) -> bool {
    given.is_binary() || given.is_null()
}

/// Accepts an array of integers.
fn integers(given: &[DataType]) -> Result<Vec<DataType>> {
    let [list] = given else {
        return plan_err!("takes an array, not {} arguments", given.len());
    };
    match element_of(list)? {
        element if element.is_integer() || element.is_null() => Ok(vec![list_of(DataType::Int32)]),
        other => plan_err!("takes an array of integers, not of {}", sql_type::name(other)),
    }
}

fn combine(arguments: &ScalarFunctionArgs, operation: fn(&mut RoaringBitmap, RoaringBitmap)) -> Result<ColumnarValue> {
    let (left, right) = (array(arguments, 0)?, array(arguments, 1)?);
    let mut results = BinaryBuilder::new();
    for pair in left.as_binary::<i32>().iter().zip(right.as_binary::<i32>()) {
        match pair {
            (Some(left), Some(right)) => {
                let mut bitmap = read(left)?;
                operation(&mut bitmap, read(right)?);
                results.append_value(write(&mut bitmap)?);
            }
            _ => results.append_null(),
        }
    }
    array_result(results.finish())
}

/// `BITMAP_BUILD(array)`: the elements; NULLs are left out.
fn build(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let lists = array(arguments, 0)?;
    let mut results = BinaryBuilder::new();
    for list in lists.as_list::<i32>().iter() {
        match list {
            Some(list) => {
                let values = list.as_primitive::<Int32Type>().iter().flatten();
                let mut bitmap: RoaringBitmap = values.map(i32::cast_unsigned).collect();
                results.append_value(write(&mut bitmap)?);
            }
            None => results.append_null(),
        }
    }
    array_result(results.finish())
}

fn cardinality(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let bitmaps = array(arguments, 0)?;
    let counts = bitmaps
        .as_binary::<i32>()
        .iter()
        .map(|bytes| bytes.map(|bytes| Ok(read(bytes)?.len().cast_signed())).transpose());
    array_result(counts.collect::<Result<Int64Array>>()?)
}

/// `BITMAP_FROM_BYTES(bytes)`, `BITMAP_TO_BYTES(bitmap)`: the bitmap in its smallest form.
fn smallest(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let bitmaps = array(arguments, 0)?;
    let mut results = BinaryBuilder::new();
    for bytes in bitmaps.as_binary::<i32>() {
        match bytes {
            Some(bytes) => results.append_value(write(&mut read(bytes)?)?),
            None => results.append_null(),
        }
    }
    array_result(results.finish())
}

fn to_array(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let bitmaps = array(arguments, 0)?;
    let mut results = ListBuilder::new(Int32Builder::new());
    let mut total = 0;
    for bytes in bitmaps.as_binary::<i32>() {
        let Some(bytes) = bytes else {
            results.append_null();
            continue;
        };
        let bitmap = read(bytes)?;
        total += bitmap.len();
        if total > ARRAY_VALUES_MAX {
            return exec_err!(
                "a bitmap of {} values is too large for an array: at most {ARRAY_VALUES_MAX} values (ARRAY_VALUES_MAX); \
                 count them with BITMAP_CARDINALITY",
                bitmap.len()
            );
        }
        results.append_value(bitmap.iter().map(|value| Some(value.cast_signed())));
    }
    array_result(results.finish())
}

/// `BITMAP_TO_STRING(bitmap)`: the values without sign, such as `{1,2,4294967295}`.
fn to_text(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let bitmaps = array(arguments, 0)?;
    let mut results = StringBuilder::new();
    for bytes in bitmaps.as_binary::<i32>() {
        let Some(bytes) = bytes else {
            results.append_null();
            continue;
        };
        let mut text = String::from("{");
        for value in &read(bytes)? {
            if text.len() > 1 {
                text.push(',');
                if text.len() > TEXT_BYTES_MAX {
                    text.push_str("...");
                    break;
                }
            }
            text.push_str(&value.to_string());
        }
        text.push('}');
        results.append_value(text);
    }
    array_result(results.finish())
}
