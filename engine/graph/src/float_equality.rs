//! Equality of floating-point numbers: -0.0 equals 0.0, and all NaNs are equal and greater than all other numbers.
//!
//! Arrow compares floats by their bits. So FLOAT and DOUBLE values are [normalized](normalize) before they are
//! compared, hashed, sorted or de-duplicated: equal values then have equal bits.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::datatypes::{Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow_schema::DataType;

/// Returns true if values of a type contain floating-point numbers, at any depth.
pub fn contains_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 => true,
        DataType::List(item) => contains_floats(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| contains_floats(field.data_type())),
        DataType::Map(entries, _) => contains_floats(entries.data_type()),
        _ => false,
    }
}

/// Replaces every -0.0 by 0.0 and every NaN by the same NaN, at any depth. Returns the same array if it has neither.
pub fn normalize(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if !contains_floats(array.data_type()) {
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
            Arc::new(ListArray::try_new(field, offsets, normalize(&values)?, nulls)?)
        }
        DataType::Struct(_) => {
            let (fields, columns, nulls) = array.as_struct().clone().into_parts();
            let columns = columns.iter().map(normalize).collect::<Result<Vec<_>, _>>()?;
            Arc::new(StructArray::try_new_with_length(fields, columns, nulls, array.len())?)
        }
        DataType::Map(..) => {
            let (field, offsets, entries, nulls, ordered) = array.as_map().clone().into_parts();
            let entries = normalize(&(Arc::new(entries) as ArrayRef))?;
            let entries = entries.as_struct().clone();
            Arc::new(MapArray::try_new(field, offsets, entries, nulls, ordered)?)
        }
        _ => Arc::clone(array),
    })
}
