//! The one equality of floating-point numbers: 0.0 and -0.0 are equal, and so are all NaNs, which are greater than all
//! other numbers.
//!
//! Arrow compares floats by their bits. So numbers of FLOAT and DOUBLE pass through [`comparable`] before they are
//! compared, hashed, sorted or de-duplicated: whatever is equal then has the same bits.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use super::Scalar;

/// The name of [`function`].
pub(crate) const NAME: &str = "$comparable";

/// [`comparable`] as a function of one argument of any type.
pub(super) fn function() -> Scalar {
    Scalar::new(
        NAME,
        |given| match given {
            [_] => Ok(given.to_vec()),
            _ => plan_err!("takes one argument, not {}", given.len()),
        },
        |given| given[0].clone(),
        |arguments| match &arguments.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(comparable(array)?)),
            ColumnarValue::Scalar(value) => {
                let array = comparable(&value.to_array()?)?;
                let value = datafusion::common::ScalarValue::try_from_array(&array, 0)?;
                Ok(ColumnarValue::Scalar(value))
            }
        },
    )
}

/// Returns whether values of a type hold floating-point numbers, at any depth.
pub fn holds_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 => true,
        DataType::List(item) => holds_floats(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_floats(field.data_type())),
        DataType::Map(entries, _) => holds_floats(entries.data_type()),
        _ => false,
    }
}

/// Returns the array with 0.0 for -0.0 and one NaN for all, at any depth; the same array where it has neither.
pub fn comparable(array: &ArrayRef) -> Result<ArrayRef> {
    if !holds_floats(array.data_type()) {
        return Ok(Arc::clone(array));
    }
    Ok(match array.data_type() {
        DataType::Float64 => {
            let floats = array.as_primitive::<Float64Type>();
            let is_other = |value: &f64| value.to_bits() == (-0.0_f64).to_bits() || value.is_nan();
            if !floats.values().iter().any(is_other) {
                return Ok(Arc::clone(array));
            }
            Arc::new(floats.unary::<_, Float64Type>(|value| if value.is_nan() { f64::NAN } else { value + 0.0 }))
        }
        DataType::Float32 => {
            let floats = array.as_primitive::<Float32Type>();
            let is_other = |value: &f32| value.to_bits() == (-0.0_f32).to_bits() || value.is_nan();
            if !floats.values().iter().any(is_other) {
                return Ok(Arc::clone(array));
            }
            Arc::new(floats.unary::<_, Float32Type>(|value| if value.is_nan() { f32::NAN } else { value + 0.0 }))
        }
        DataType::List(_) => {
            let (field, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
            Arc::new(ListArray::try_new(field, offsets, comparable(&values)?, nulls)?)
        }
        DataType::Struct(_) => {
            let (fields, columns, nulls) = array.as_struct().clone().into_parts();
            let columns = columns.iter().map(comparable).collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(fields, columns, nulls, array.len())?)
        }
        DataType::Map(..) => {
            let (field, offsets, entries, nulls, ordered) = array.as_map().clone().into_parts();
            let entries = comparable(&(Arc::new(entries) as ArrayRef))?;
            let entries = entries.as_struct().clone();
            Arc::new(MapArray::try_new(field, offsets, entries, nulls, ordered)?)
        }
        _ => Arc::clone(array),
    })
}
