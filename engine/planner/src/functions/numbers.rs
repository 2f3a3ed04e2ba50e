//! Functions of numbers that DataFusion means otherwise.
//!
//! `FLOOR`, `CEIL`, `SIGN` and `TRUNCATE` of a whole number are whole numbers of its type. What has no real value is NaN or
//! infinite, as floating-point numbers have it, instead of an error. A decimal divided by another is rounded half up, to as
//! many digits as Flink keeps.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, PrimitiveArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, Float64Type, Int64Type, i256,
};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::functions::math;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};

use super::{Scalar, array, finished};

/// The name of [`quotient`].
pub(super) const DIVIDE: &str = "$divide";

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::new(
            "floor",
            |given| whole_or(given, &math::floor()),
            |given| whole_or_result(given, &math::floor()),
            |arguments| itself_or(arguments, &math::floor()),
        ),
        Scalar::new(
            "ceil",
            |given| whole_or(given, &math::ceil()),
            |given| whole_or_result(given, &math::ceil()),
            |arguments| itself_or(arguments, &math::ceil()),
        ),
        Scalar::new(
            "signum",
            |given| whole_or(given, &math::signum()),
            |given| whole_or_result(given, &math::signum()),
            signum,
        ),
        Scalar::new(
            "trunc",
            |given| whole_or(given, &math::trunc()),
            |given| whole_or_result(given, &math::trunc()),
            trunc,
        ),
        Scalar::new("sqrt", doubles::<1>, double, |arguments| {
            let numbers = array(arguments, 0)?;
            finished(numbers.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::sqrt))
        }),
        Scalar::new("power", doubles::<2>, double, power),
        quotient(),
    ]
}

/// `a / b` of decimals.
pub(super) fn quotient() -> Scalar {
    Scalar::new(DIVIDE, decimals, quotient_type, divide)
}

fn double(_: &[DataType]) -> DataType {
    DataType::Float64
}

/// `n` numbers, as DOUBLE.
fn doubles<const N: usize>(given: &[DataType]) -> Result<Vec<DataType>> {
    if given.len() != N {
        return plan_err!("takes {N} numbers, not {} arguments", given.len());
    }
    match given.iter().find(|given| !given.is_numeric() && !given.is_null()) {
        Some(other) => plan_err!("takes numbers, not {}", crate::sql::types::name(other)),
        None => Ok(vec![DataType::Float64; N]),
    }
}

/// Whole numbers as they are (digits, where they are given, as BIGINT), others as DataFusion's function takes them.
fn whole_or(given: &[DataType], other: &ScalarUDF) -> Result<Vec<DataType>> {
    match given {
        [number] if number.is_integer() => Ok(given.to_vec()),
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

fn whole_or_result(given: &[DataType], other: &ScalarUDF) -> DataType {
    if given[0].is_integer() {
        return given[0].clone();
    }
    other.return_type(given).unwrap_or(DataType::Float64)
}

fn is_whole(arguments: &ScalarFunctionArgs) -> bool {
    arguments.arg_fields[0].data_type().is_integer()
}

fn itself_or(arguments: &ScalarFunctionArgs, other: &ScalarUDF) -> Result<ColumnarValue> {
    if is_whole(arguments) {
        return Ok(arguments.args[0].clone());
    }
    other.invoke_with_args(arguments.clone())
}

/// A function of whole numbers, in their type.
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
    if is_whole(arguments) {
        return whole(arguments, |number, _| Some(number.signum()));
    }
    math::signum().invoke_with_args(arguments.clone())
}

/// `TRUNCATE(number[, digits])`: of a whole number, zeros for its last digits where `digits` is negative.
fn trunc(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    if !is_whole(arguments) {
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
    finished(result)
}

/// The decimal that Flink takes a number for in arithmetic with decimals.
fn as_decimal(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal128(precision, scale) => Some((*precision, *scale)),
        DataType::Int8 | DataType::UInt8 => Some((3, 0)),
        DataType::Int16 | DataType::UInt16 => Some((5, 0)),
        DataType::Int32 | DataType::UInt32 => Some((10, 0)),
        DataType::Int64 | DataType::UInt64 => Some((19, 0)),
        _ => None,
    }
}

/// Two numbers, and perhaps one of the type that the quotient is to have.
fn decimals(given: &[DataType]) -> Result<Vec<DataType>> {
    let decimal = |data_type: &DataType| match as_decimal(data_type) {
        Some((precision, scale)) => Ok(DataType::Decimal128(precision, scale)),
        None => plan_err!("takes DECIMALs, not {}", crate::sql::types::name(data_type)),
    };
    given.iter().map(decimal).collect()
}

/// Flink's rule (`LogicalTypeMerging.findDivisionDecimalType`): digits behind the point for every digit of the divisor, six
/// at least, and fewer where there would be more than 38 in all, six of them kept.
fn quotient_type(given: &[DataType]) -> DataType {
    if let Some(wanted) = given.get(2) {
        return wanted.clone();
    }
    let decimal = |index: usize| as_decimal(&given[index]).unwrap_or((DECIMAL128_MAX_PRECISION, 0));
    let ((p1, s1), (p2, s2)) = (decimal(0), decimal(1));
    let [p1, s1, p2, s2] = [i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2)];
    let scale = (s1 + p2 + 1).max(6);
    let whole_digits = p1 - s1 + s2;
    let most = i32::from(DECIMAL128_MAX_PRECISION);
    let (precision, scale) = if whole_digits + scale <= most {
        (whole_digits + scale, scale)
    } else {
        (most, (most - whole_digits).max(scale.min(6)))
    };
    DataType::Decimal128(precision.clamp(1, most) as u8, scale as i8)
}

fn divide(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let DataType::Decimal128(precision, scale) = *arguments.return_type() else {
        return exec_err!("a quotient of decimals is a decimal");
    };
    let (dividends, divisors) = (array(arguments, 0)?, array(arguments, 1)?);
    let (dividends, divisors) = (
        dividends.as_primitive::<Decimal128Type>(),
        divisors.as_primitive::<Decimal128Type>(),
    );
    let shift = i32::from(scale) + i32::from(divisors.scale()) - i32::from(dividends.scale());
    let limit = 10_i128.pow(u32::from(precision));
    let mut result = Vec::with_capacity(arguments.number_rows);
    for (dividend, divisor) in dividends.iter().zip(divisors) {
        let Some((dividend, divisor)) = dividend.zip(divisor) else {
            result.push(None);
            continue;
        };
        if divisor == 0 {
            return Err(ArrowError::DivideByZero.into());
        }
        match rounded(dividend, divisor, shift).filter(|quotient| (-limit + 1..limit).contains(quotient)) {
            Some(quotient) => result.push(Some(quotient)),
            None => return exec_err!("a quotient is too large for DECIMAL({precision}, {scale})"),
        }
    }
    finished(Decimal128Array::from(result).with_precision_and_scale(precision, scale)?)
}

/// `dividend * 10^shift / divisor`, halves away from zero; nothing if it is too large.
fn rounded(dividend: i128, divisor: i128, shift: i32) -> Option<i128> {
    let ten = |digits: i32| i256::from_i128(10).checked_pow(digits.unsigned_abs());
    if let Some(dividend) = u32::try_from(shift)
        .ok()
        .and_then(|digits| 10_i128.checked_pow(digits)?.checked_mul(dividend))
    {
        let (whole, rest) = (dividend.checked_div(divisor)?, dividend % divisor);
        let is_half = rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs();
        let away = if (dividend < 0) == (divisor < 0) { 1 } else { -1 };
        return Some(if is_half { whole + away } else { whole });
    }
    let (mut dividend, mut divisor) = (i256::from_i128(dividend), i256::from_i128(divisor));
    if shift >= 0 {
        dividend = dividend.checked_mul(ten(shift)?)?;
    } else {
        divisor = divisor.checked_mul(ten(shift)?)?;
    }
    let (whole, rest) = (dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?);
    let is_half = rest.wrapping_abs() >= divisor.wrapping_abs().wrapping_sub(rest.wrapping_abs());
    let away = if dividend.is_negative() == divisor.is_negative() {
        1
    } else {
        -1
    };
    let rounded = if is_half {
        whole.checked_add(i256::from_i128(away))?
    } else {
        whole
    };
    rounded.to_i128()
}
