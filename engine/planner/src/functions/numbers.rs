//! Numeric functions whose results differ from DataFusion's.
//!
//! `FLOOR`, `CEIL`, `SIGN` and `TRUNCATE` of an integer have its type; `FLOOR` and `CEIL` of a decimal have its
//! precision and scale 0. A result that is no real number is NaN or infinite instead of an error.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, PrimitiveArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type};
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
        ),
        Scalar::fallible(
            "signum",
            |given| integers_or(given, &math::signum()),
            |given| integer_type_or(given, &math::signum()),
            signum,
        )
        .aliases(&["sign"]),
        Scalar::fallible(
            "trunc",
            |given| integers_or(given, &math::trunc()),
            |given| integer_type_or(given, &math::trunc()),
            trunc,
        )
        .aliases(&["truncate"]),
        Scalar::fallible("sqrt", doubles::<1>, double, |arguments| {
            let numbers = array(arguments, 0)?;
            array_result(numbers.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::sqrt))
        }),
        Scalar::fallible("power", doubles::<2>, double, power).aliases(&["pow"]),
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
        [number, digits] if number.is_integer() && digits.is_integer() && other.name() == "trunc" => {
            Ok(vec![number.clone(), DataType::Int64])
        }
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

/// Applies a function to integers of any type.
fn whole(arguments: &ScalarFunctionArgs, of: impl Fn(i64, usize) -> Option<i64>) -> Result<ColumnarValue> {
    let numbers: ArrayRef = array(arguments, 0)?;
    let wide = cast(&numbers, &DataType::Int64)?;
    let wide = wide.as_primitive::<Int64Type>();
    let rows = wide.iter().enumerate();
    let result: PrimitiveArray<Int64Type> = rows
        .map(|(row, number)| number.and_then(|number| of(number, row)))
        .collect();
    Ok(ColumnarValue::Array(cast(&result, numbers.data_type())?))
}

fn signum(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    if is_integer_type(arguments) {
        return whole(arguments, |number, _| Some(number.signum()));
    }
    math::signum().invoke_with_args(arguments.clone())
}

/// `TRUNCATE(number[, digits])`: replaces the last digits of an integer by zeros if `digits` is negative.
fn trunc(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    if !is_integer_type(arguments) {
        return math::trunc().invoke_with_args(arguments.clone());
    }
    if arguments.args.len() == 1 {
        return Ok(arguments.args[0].clone());
    }
    let digits = array(arguments, 1)?;
    let digits = digits.as_primitive::<Int64Type>();
    whole(arguments, |number, row| {
        let digits = digits.is_valid(row).then(|| digits.value(row))?;
        if digits >= 0 {
            return Some(number);
        }
        let zeros = u32::try_from(digits.unsigned_abs()).ok();
        let unit = zeros.and_then(|zeros| 10_i64.checked_pow(zeros));
        Some(unit.map_or(0, |unit| number - number % unit))
    })
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
