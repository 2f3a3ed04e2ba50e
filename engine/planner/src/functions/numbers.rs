//! Numeric functions whose results differ from DataFusion's.
//!
//! `FLOOR`, `CEIL`, `SIGN` and `ABS` of an integer have its type; `FLOOR` and `CEIL` of a decimal have its precision
//! and scale 0. A result that is no real number is NaN or infinite instead of an error.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, Float64Array};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::functions::math;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use millstream_graph::sql_type;

use super::scalar::{Scalar, array, array_result};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::fallible(
            "floor",
            |given| integers_or(given, &math::floor()),
            |given| integer_type_or(given, &math::floor()),
            |arguments| round_decimals_or(arguments, &math::floor(), i128::div_euclid),
        ),
        Scalar::fallible(
            "ceil",
            |given| integers_or(given, &math::ceil()),
            |given| integer_type_or(given, &math::ceil()),
            |arguments| round_decimals_or(arguments, &math::ceil(), |value, unit| -(-value).div_euclid(unit)),
        )
        .aliases(&["ceiling"]),
        Scalar::infallible("signum", one_number, |given| given[0].clone(), signum).aliases(&["sign"]),
        Scalar::infallible("abs", one_number, |given| given[0].clone(), abs),
        Scalar::fallible("sqrt", doubles::<1>, double, |arguments| {
            let numbers = array(arguments, 0)?;
            array_result(numbers.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::sqrt))
        }),
        Scalar::fallible("power", doubles::<2>, double, power),
    ]
}

fn double(_: &[DataType]) -> DataType {
    DataType::Float64
}

/// Accepts `N` numbers, as DOUBLE.
fn doubles<const N: usize>(given: &[DataType]) -> Result<Vec<DataType>> {
    if given.len() != N {
        return plan_err!("takes {N} numbers, not {} arguments", given.len());
    }
    match given.iter().find(|given| !given.is_numeric() && !given.is_null()) {
        Some(other) => plan_err!("takes numbers, not {}", sql_type::name(other)),
        None => Ok(vec![DataType::Float64; N]),
    }
}

/// Accepts integers unchanged (with digits as BIGINT), other numbers as DataFusion's function does.
fn integers_or(given: &[DataType], other: &ScalarUDF) -> Result<Vec<DataType>> {
    match given {
        [number] if number.is_integer() => Ok(given.to_vec()),
        [DataType::Decimal128(..)] if is_rounding_function(other) => Ok(given.to_vec()),
        _ => {
            let fields = given.iter().map(|given| Arc::new(Field::new("", given.clone(), true)));
            let taken = fields_with_udf(&fields.collect::<Vec<_>>(), other)?;
            Ok(taken.iter().map(|field| field.data_type().clone()).collect())
        }
    }
}

fn integer_type_or(given: &[DataType], other: &ScalarUDF) -> DataType {
    if given[0].is_integer() {
        return given[0].clone();
    }
    if let DataType::Decimal128(precision, _) = given[0]
        && is_rounding_function(other)
    {
        return DataType::Decimal128(precision, 0);
    }
    other.return_type(given).unwrap_or(DataType::Float64)
}

fn is_integer_type(arguments: &ScalarFunctionArgs) -> bool {
    arguments.arg_fields[0].data_type().is_integer()
}

/// Returns true if a function has an integer result for any number.
fn is_rounding_function(function: &ScalarUDF) -> bool {
    matches!(function.name(), "floor" | "ceil")
}

/// Returns integers unchanged, and decimals as the `whole` multiple of their unit, which has no more digits than the
/// decimal.
fn round_decimals_or(
    arguments: &ScalarFunctionArgs,
    other: &ScalarUDF,
    whole: fn(i128, i128) -> i128,
) -> Result<ColumnarValue> {
    if is_integer_type(arguments) {
        return Ok(arguments.args[0].clone());
    }
    if let DataType::Decimal128(precision, scale) = *arguments.arg_fields[0].data_type() {
        let decimals = array(arguments, 0)?;
        let decimals = decimals.as_primitive::<Decimal128Type>();
        let unit = u32::try_from(scale)
            .ok()
            .and_then(|scale| 10_i128.checked_pow(scale))
            .unwrap_or(1);
        let result = decimals.unary::<_, Decimal128Type>(|value| whole(value, unit));
        return array_result(result.with_precision_and_scale(precision, 0)?);
    }
    other.invoke_with_args(arguments.clone())
}

/// Accepts one number.
fn one_number(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [DataType::Null] => Ok(vec![DataType::Float64]),
        [number] if number.is_unsigned_integer() => Ok(vec![DataType::Int64]),
        [number] if number.is_numeric() => Ok(given.to_vec()),
        [other] => plan_err!("takes a number, not {}", sql_type::name(other)),
        _ => plan_err!("takes a number, not {} arguments", given.len()),
    }
}

/// `SIGN(x)`, in the type of the number. A DECIMAL that has no room for a 1 before the point has a NULL instead.
fn signum(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let numbers = array(arguments, 0)?;
    Ok(ColumnarValue::Array(match numbers.data_type() {
        DataType::Decimal128(precision, scale) => {
            let one = 10_i128.pow(u32::try_from(*scale).unwrap_or(0));
            let fits = i16::from(*scale) < i16::from(*precision);
            let numbers = numbers.as_primitive::<Decimal128Type>();
            let signs = numbers.unary_opt::<_, Decimal128Type>(|number| match number {
                0 => Some(0),
                number => fits.then_some(one * number.signum()),
            });
            Arc::new(signs.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Int8 => unary::<Int8Type>(&numbers, i8::signum),
        DataType::Int16 => unary::<Int16Type>(&numbers, i16::signum),
        DataType::Int32 => unary::<Int32Type>(&numbers, i32::signum),
        DataType::Int64 => unary::<Int64Type>(&numbers, i64::signum),
        DataType::Float32 => unary::<Float32Type>(&numbers, |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }),
        _ => unary::<Float64Type>(&numbers, |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }),
    }))
}

/// Applies a function to numbers of one type.
fn unary<T: ArrowPrimitiveType>(numbers: &ArrayRef, of: impl Fn(T::Native) -> T::Native) -> ArrayRef {
    Arc::new(numbers.as_primitive::<T>().unary::<_, T>(of))
}

/// `ABS(x)`. The smallest integer has no absolute value of its type, and stays as it is, like other integers that
/// overflow.
fn abs(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let numbers = array(arguments, 0)?;
    Ok(ColumnarValue::Array(match numbers.data_type() {
        DataType::Decimal128(precision, scale) => {
            let numbers = numbers.as_primitive::<Decimal128Type>();
            let absolute = numbers.unary::<_, Decimal128Type>(i128::abs);
            Arc::new(absolute.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Int8 => unary::<Int8Type>(&numbers, i8::wrapping_abs),
        DataType::Int16 => unary::<Int16Type>(&numbers, i16::wrapping_abs),
        DataType::Int32 => unary::<Int32Type>(&numbers, i32::wrapping_abs),
        DataType::Int64 => unary::<Int64Type>(&numbers, i64::wrapping_abs),
        DataType::Float32 => unary::<Float32Type>(&numbers, f32::abs),
        _ => unary::<Float64Type>(&numbers, f64::abs),
    }))
}

fn power(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (bases, exponents) = (array(arguments, 0)?, array(arguments, 1)?);
    let (bases, exponents) = (
        bases.as_primitive::<Float64Type>(),
        exponents.as_primitive::<Float64Type>(),
    );
    let rows = bases.iter().zip(exponents);
    let result: Float64Array = rows.map(|(base, exponent)| Some(base?.powf(exponent?))).collect();
    array_result(result)
}
