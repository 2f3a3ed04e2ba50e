//! Arithmetic of decimals by Flink's rules (`LogicalTypeMerging`, `DecimalDataUtils`): the digits of a result follow
//! from those of its operands, and a value that has more digits than its type is NULL.
//!
//! Where all values of a result fit into 38 digits DataFusion computes it, to the same type; see `sql/decimals.rs`. The
//! functions here compute with 256 bits, which hold whatever two decimals give, round half up and check the digits.

use datafusion::arrow::array::{AsArray, Decimal128Array};
use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, i256};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Operator, ScalarFunctionArgs};
use millstream_graph::sql_type;

use super::scalar::{Notation, Scalar, array, finished};

pub(super) fn all() -> Vec<Scalar> {
    vec![plus(), minus(), times(), modulo(), quotient()]
}

/// The function of an operator.
pub(super) fn of(operator: Operator) -> Option<Scalar> {
    match operator {
        Operator::Plus => Some(plus()),
        Operator::Minus => Some(minus()),
        Operator::Multiply => Some(times()),
        Operator::Modulo => Some(modulo()),
        Operator::Divide => Some(quotient()),
        _ => None,
    }
}

fn plus() -> Scalar {
    Scalar::fallible(
        "$plus",
        decimals,
        |given| adjusted(sum_digits(digits(given, 0), digits(given, 1))),
        |arguments| computed(arguments, |left, right| left.aligned(right, i256::checked_add)),
    )
    .notation(Notation::Operator("+"))
}

fn minus() -> Scalar {
    Scalar::fallible(
        "$minus",
        decimals,
        |given| adjusted(sum_digits(digits(given, 0), digits(given, 1))),
        |arguments| computed(arguments, |left, right| left.aligned(right, i256::checked_sub)),
    )
    .notation(Notation::Operator("-"))
}

fn times() -> Scalar {
    Scalar::fallible(
        "$times",
        decimals,
        |given| adjusted(product_digits(digits(given, 0), digits(given, 1))),
        |arguments| {
            computed(arguments, |left, right| {
                Ok(left.value.checked_mul(right.value).map(|value| Exact {
                    value,
                    scale: left.scale + right.scale,
                }))
            })
        },
    )
    .notation(Notation::Operator("*"))
}

fn modulo() -> Scalar {
    Scalar::fallible(
        "$modulo",
        decimals,
        |given| adjusted(remainder_digits(digits(given, 0), digits(given, 1))),
        |arguments| {
            computed(arguments, |left, right| {
                if right.value == i256::ZERO {
                    return Err(ArrowError::DivideByZero.into());
                }
                left.aligned(right, i256::checked_rem)
            })
        },
    )
    .notation(Notation::Operator("%"))
}

/// `a / b` of decimals.
pub(super) fn quotient() -> Scalar {
    Scalar::fallible("$divide", decimals, quotient_type, divide).notation(Notation::Operator("/"))
}

/// Digits in all and behind the point; there may be more than a decimal can have.
pub(crate) type Digits = (i32, i32);

/// The decimal that Flink takes an exact number for in arithmetic with decimals.
pub(crate) fn as_decimal(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal128(precision, scale) => Some((*precision, *scale)),
        DataType::Int8 | DataType::UInt8 => Some((3, 0)),
        DataType::Int16 | DataType::UInt16 => Some((5, 0)),
        DataType::Int32 | DataType::UInt32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::UInt64 => Some((20, 0)),
        _ => None,
    }
}

/// The digits of a result, before they are cut to 38, and whether its operands with as many digits behind the point as
/// the result have no more than 38.
pub(crate) fn result_digits(operator: Operator, left: (u8, i8), right: (u8, i8)) -> Option<(Digits, bool)> {
    let [left, right] = [left, right].map(|(precision, scale)| (i32::from(precision), i32::from(scale)));
    let scale = left.1.max(right.1);
    let are_aligned_sound = [left, right]
        .iter()
        .all(|(precision, own)| precision - own + scale <= i32::from(DECIMAL128_MAX_PRECISION));
    match operator {
        Operator::Plus | Operator::Minus => Some((sum_digits(left, right), are_aligned_sound)),
        Operator::Multiply => Some((product_digits(left, right), true)),
        Operator::Modulo => Some((remainder_digits(left, right), are_aligned_sound)),
        _ => None,
    }
}

/// `findAdditionDecimalType`.
fn sum_digits((p1, s1): Digits, (p2, s2): Digits) -> Digits {
    let scale = s1.max(s2);
    ((p1 - s1).max(p2 - s2) + scale + 1, scale)
}

/// `findMultiplicationDecimalType`.
fn product_digits((p1, s1): Digits, (p2, s2): Digits) -> Digits {
    (p1 + p2 + 1, s1 + s2)
}

/// `findModuloDecimalType`.
fn remainder_digits((p1, s1): Digits, (p2, s2): Digits) -> Digits {
    let scale = s1.max(s2);
    ((p1 - s1).min(p2 - s2) + scale, scale)
}

/// `adjustPrecisionScale`: where there would be more than 38 digits, fewer are behind the point, but six are kept.
fn adjusted((precision, scale): Digits) -> DataType {
    let most = i32::from(DECIMAL128_MAX_PRECISION);
    let (precision, scale) = if precision <= most {
        (precision, scale)
    } else {
        (most, (most - (precision - scale)).max(scale.min(6)))
    };
    DataType::Decimal128(precision.clamp(1, most) as u8, scale as i8)
}

fn digits(given: &[DataType], index: usize) -> Digits {
    let (precision, scale) = as_decimal(&given[index]).unwrap_or((DECIMAL128_MAX_PRECISION, 0));
    (i32::from(precision), i32::from(scale))
}

/// Two numbers, and perhaps one of the type that the result is to have.
fn decimals(given: &[DataType]) -> Result<Vec<DataType>> {
    let decimal = |data_type: &DataType| match as_decimal(data_type) {
        Some((precision, scale)) => Ok(DataType::Decimal128(precision, scale)),
        None => plan_err!("takes DECIMALs, not {}", sql_type::name(data_type)),
    };
    given.iter().map(decimal).collect()
}

/// `findDivisionDecimalType`: digits behind the point for every digit of the divisor, six at least.
fn quotient_type(given: &[DataType]) -> DataType {
    if let Some(wanted) = given.get(2) {
        return wanted.clone();
    }
    let ((p1, s1), (p2, s2)) = (digits(given, 0), digits(given, 1));
    let scale = (s1 + p2 + 1).max(6);
    adjusted((p1 - s1 + s2 + scale, scale))
}

/// A number of so many digits behind the point.
#[derive(Clone, Copy)]
struct Exact {
    value: i256,
    scale: i32,
}

impl Exact {
    /// Applies an operation to two numbers with equally many digits behind the point.
    fn aligned(self, other: Self, operation: fn(i256, i256) -> Option<i256>) -> Result<Option<Self>> {
        let scale = self.scale.max(other.scale);
        let at = |number: Self| number.value.checked_mul(ten(scale - number.scale)?);
        let both = at(self).zip(at(other));
        Ok(both
            .and_then(|(left, right)| operation(left, right))
            .map(|value| Self { value, scale }))
    }

    /// The number with no more digits behind the point than `scale`, halves away from zero.
    fn rounded(self, scale: i32) -> Option<i128> {
        if scale >= self.scale {
            return self.value.checked_mul(ten(scale - self.scale)?)?.to_i128();
        }
        half_up(self.value, ten(self.scale - scale)?)?.to_i128()
    }
}

fn ten(digits: i32) -> Option<i256> {
    i256::from_i128(10).checked_pow(u32::try_from(digits).ok()?)
}

/// A quotient, halves away from zero.
fn half_up(dividend: i256, divisor: i256) -> Option<i256> {
    let (whole, rest) = (dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?);
    let is_half = rest.wrapping_abs() >= divisor.wrapping_abs().wrapping_sub(rest.wrapping_abs());
    let away = if dividend.is_negative() == divisor.is_negative() {
        1
    } else {
        -1
    };
    if is_half {
        whole.checked_add(i256::from_i128(away))
    } else {
        Some(whole)
    }
}

fn result_type(arguments: &ScalarFunctionArgs) -> Result<(u8, i8)> {
    match *arguments.return_type() {
        DataType::Decimal128(precision, scale) => Ok((precision, scale)),
        _ => exec_err!("arithmetic of decimals gives a decimal"),
    }
}

/// Returns whether a decimal of so many digits can have a value, unscaled.
fn fits(value: i128, precision: u8) -> bool {
    value.unsigned_abs() < 10_u128.pow(u32::from(precision))
}

fn computed(
    arguments: &ScalarFunctionArgs,
    operation: impl Fn(Exact, Exact) -> Result<Option<Exact>>,
) -> Result<ColumnarValue> {
    let (precision, scale) = result_type(arguments)?;
    let (left, right) = (array(arguments, 0)?, array(arguments, 1)?);
    let (left, right) = (
        left.as_primitive::<Decimal128Type>(),
        right.as_primitive::<Decimal128Type>(),
    );
    let exact = |value: i128, scale: i8| Exact {
        value: i256::from_i128(value),
        scale: i32::from(scale),
    };
    let mut result = Vec::with_capacity(arguments.number_rows);
    for pair in left.iter().zip(right) {
        let value = match pair {
            (Some(a), Some(b)) => operation(exact(a, left.scale()), exact(b, right.scale()))?,
            _ => None,
        };
        let value = value.and_then(|value| value.rounded(i32::from(scale)));
        result.push(value.filter(|value| fits(*value, precision)));
    }
    finished(Decimal128Array::from(result).with_precision_and_scale(precision, scale)?)
}

fn divide(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (precision, scale) = result_type(arguments)?;
    let (dividends, divisors) = (array(arguments, 0)?, array(arguments, 1)?);
    let (dividends, divisors) = (
        dividends.as_primitive::<Decimal128Type>(),
        divisors.as_primitive::<Decimal128Type>(),
    );
    let shift = i32::from(scale) + i32::from(divisors.scale()) - i32::from(dividends.scale());
    let mut result = Vec::with_capacity(arguments.number_rows);
    for (dividend, divisor) in dividends.iter().zip(divisors) {
        let Some((dividend, divisor)) = dividend.zip(divisor) else {
            result.push(None);
            continue;
        };
        if divisor == 0 {
            return Err(ArrowError::DivideByZero.into());
        }
        result.push(rounded_quotient(dividend, divisor, shift).filter(|quotient| fits(*quotient, precision)));
    }
    finished(Decimal128Array::from(result).with_precision_and_scale(precision, scale)?)
}

/// `dividend * 10^shift / divisor`, halves away from zero; nothing if it is too large.
fn rounded_quotient(dividend: i128, divisor: i128, shift: i32) -> Option<i128> {
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
        divisor = divisor.checked_mul(ten(-shift)?)?;
    }
    half_up(dividend, divisor)?.to_i128()
}
