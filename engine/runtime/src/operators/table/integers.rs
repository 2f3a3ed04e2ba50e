//! Integer-like columns (integers, times and dates) as `i64` values.

use arrow::array::{Array, ArrayData, ArrayRef, make_array};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

use crate::Error;

/// Returns the width in bytes of an integer-like type, or `None` for other types.
pub(super) fn integer_width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Int64
        | DataType::UInt64
        | DataType::Timestamp(..)
        | DataType::Date64
        | DataType::Time64(_)
        | DataType::Duration(_) => Some(8),
        DataType::Int32 | DataType::UInt32 | DataType::Date32 | DataType::Time32(_) => Some(4),
        _ => None,
    }
}

/// Returns the values of an integer-like column as `i64`, borrowed if they are 8 bytes wide.
pub(super) fn integer_values(array: &ArrayRef, width: usize) -> ScalarBuffer<i64> {
    let data = array.to_data();
    if width == 8 {
        ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
    } else {
        let narrow = ScalarBuffer::<i32>::new(data.buffers()[0].clone(), data.offset(), data.len());
        narrow.iter().map(|value| i64::from(*value)).collect()
    }
}

/// Makes a column of an integer-like type.
pub(super) fn from_integers(
    data_type: &DataType,
    values: Vec<i64>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, Error> {
    let len = values.len();
    let buffer = match integer_width(data_type) {
        Some(4) => Buffer::from_vec(values.into_iter().map(|value| value as i32).collect::<Vec<i32>>()),
        _ => Buffer::from_vec(values),
    };
    let data = ArrayData::builder(data_type.clone())
        .len(len)
        .add_buffer(buffer)
        .nulls(nulls)
        .build()?;
    Ok(make_array(data))
}
