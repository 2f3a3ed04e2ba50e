//! Arithmetic of decimals by Flink's rules (`LogicalTypeMerging`, `DecimalDataUtils`): precision and scale of a result
//! follow from those of its operands, and a value with more digits than its type is NULL.
//!
//! If all values of a result fit into 38 digits, DataFusion computes it, with the same type (`sql/decimals.rs`). The
//! functions here compute with 256 bits, which hold any result of two decimals, round half up and check the number of
//! digits.

use datafusion::arrow::array::{Array, AsArray, Decimal128Array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, i256};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Operator, ScalarFunctionArgs};
use millstream_graph::sql_type;

use super::scalar::{Notation, Scalar, array, array_result};

pub(super) fn all() -> Vec<Scalar> {
    vec![plus(), minus(), multiply(), modulo(), quotient()]
}

/// Returns the function of an operator.
pub(super) fn of(operator: Operator) -> Option<Scalar> {
    match operator {
        Operator::Plus => Some(plus()),
        Operator::Minus => Some(minus()),
        Operator::Multiply => Some(multiply()),
        Operator::Modulo => Some(modulo()),
        Operator::Divide => Some(quotient()),
        _ => None,
    }
}

fn plus() -> Scalar {
    Scalar::fallible(
        "$plus",
        decimals,
        |given| adjust(sum_digits(digits(given, 0), digits(given, 1))),
        |arguments| {
            let narrow = scales(arguments)?.are_equal().then_some(i128::checked_add as Narrow);
            compute(arguments, narrow, |left, right| left.aligned(right, i256::checked_add))
        },
    )
    .notation(Notation::Operator("+"))
}

fn minus() -> Scalar {
    Scalar::fallible(
        "$minus",
        decimals,
        |given| adjust(sum_digits(digits(given, 0), digits(given, 1))),
        |arguments| {
            let narrow = scales(arguments)?.are_equal().then_some(i128::checked_sub as Narrow);
            compute(arguments, narrow, |left, right| left.aligned(right, i256::checked_sub))
        },
    )
    .notation(Notation::Operator("-"))
}

fn multiply() -> Scalar {
    Scalar::fallible(
        "$times",
        decimals,
        |given| adjust(product_digits(digits(given, 0), digits(given, 1))),
        |arguments| {
            let scales = scales(arguments)?;
            let is_exact = scales.left + scales.right == scales.result;
            compute(
                arguments,
                is_exact.then_some(i128::checked_mul as Narrow),
                |left, right| {
                    Ok(left.value.checked_mul(right.value).map(|value| Exact {
                        value,
                        scale: left.scale + right.scale,
                    }))
                },
            )
        },
    )
    .notation(Notation::Operator("*"))
}

fn modulo() -> Scalar {
    Scalar::fallible(
        "$modulo",
        decimals,
        |given| adjust(remainder_digits(digits(given, 0), digits(given, 1))),
        |arguments| {
            compute(arguments, None, |left, right| {
                if right.value == i256::ZERO {
                    return Err(ArrowError::DivideByZero.into());
                }
                left.aligned(right, i256::checked_rem)
            })
        },
    )
    .notation(Notation::Operator("%"))
}

/// Returns the function of `a / b` of decimals.
pub(super) fn quotient() -> Scalar {
    Scalar::fallible("$divide", decimals, quotient_type, divide).notation(Notation::Operator("/"))
}

/// Precision and scale, which may exceed those of a decimal.
pub(crate) type Digits = (i32, i32);

/// Returns the precision and scale that Flink gives an exact number in arithmetic with decimals.
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

/// Returns the precision and scale of a result before they are limited to 38 digits, and true if its operands have at
/// most 38 digits when they are scaled to the result's scale.
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

/// `adjustPrecisionScale`: limits the precision to 38 by reducing the scale, to six at least.
fn adjust((precision, scale): Digits) -> DataType {
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

/// Accepts two numbers, and optionally one of the type of the result.
fn decimals(given: &[DataType]) -> Result<Vec<DataType>> {
    let decimal = |data_type: &DataType| match as_decimal(data_type) {
        Some((precision, scale)) => Ok(DataType::Decimal128(precision, scale)),
        None => plan_err!("takes DECIMALs, not {}", sql_type::name(data_type)),
    };
    given.iter().map(decimal).collect()
}

/// `findDivisionDecimalType`: the scale grows by the precision of the divisor, and is six at least.
fn quotient_type(given: &[DataType]) -> DataType {
    if let Some(wanted) = given.get(2) {
        return wanted.clone();
    }
    let ((p1, s1), (p2, s2)) = (digits(given, 0), digits(given, 1));
    let scale = (s1 + p2 + 1).max(6);
    adjust((p1 - s1 + s2 + scale, scale))
}

/// An unscaled value with its scale.
#[derive(Clone, Copy)]
struct Exact {
    value: i256,
    scale: i32,
}

impl Exact {
    /// Applies an operation to two numbers after scaling them alike.
    fn aligned(self, other: Self, operation: fn(i256, i256) -> Option<i256>) -> Result<Option<Self>> {
        let scale = self.scale.max(other.scale);
        let at = |number: Self| number.value.checked_mul(power_of_ten(scale - number.scale)?);
        let both = at(self).zip(at(other));
        Ok(both
            .and_then(|(left, right)| operation(left, right))
            .map(|value| Self { value, scale }))
    }

    /// Rounds the number to a scale, halves away from zero.
    fn rounded(self, scale: i32) -> Option<i128> {
        if scale >= self.scale {
            return self.value.checked_mul(power_of_ten(scale - self.scale)?)?.to_i128();
        }
        half_up(self.value, power_of_ten(self.scale - scale)?)?.to_i128()
    }
}

fn power_of_ten(digits: i32) -> Option<i256> {
    i256::from_i128(10).checked_pow(u32::try_from(digits).ok()?)
}

/// Returns a quotient rounded half away from zero.
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

/// Returns true if a decimal of this precision can have an unscaled value.
fn fits(value: i128, precision: u8) -> bool {
    value.unsigned_abs() < 10_u128.pow(u32::from(precision))
}

/// An operation on unscaled values whose result has the result's scale; `None` if it exceeds 128 bits.
type Narrow = fn(i128, i128) -> Option<i128>;

/// Scales of the operands and of the result.
struct Scales {
    left: i8,
    right: i8,
    result: i8,
}

impl Scales {
    fn are_equal(&self) -> bool {
        self.left == self.right && self.right == self.result
    }
}

fn scales(arguments: &ScalarFunctionArgs) -> Result<Scales> {
    let scale_of = |index: usize| match arguments.args[index].data_type() {
        DataType::Decimal128(_, scale) => Ok(scale),
        _ => exec_err!("arithmetic of decimals takes decimals"),
    };
    Ok(Scales {
        left: scale_of(0)?,
        right: scale_of(1)?,
        result: result_type(arguments)?.1,
    })
}

/// Computes the rows of a batch: in 128 bits by `narrow`, if that is given and no value is too large, otherwise in 256
/// bits by `operation`.
fn compute(
    arguments: &ScalarFunctionArgs,
    narrow: Option<Narrow>,
    operation: impl Fn(Exact, Exact) -> Result<Option<Exact>>,
) -> Result<ColumnarValue> {
    let (precision, scale) = result_type(arguments)?;
    let (left, right) = (array(arguments, 0)?, array(arguments, 1)?);
    let (left, right) = (
        left.as_primitive::<Decimal128Type>(),
        right.as_primitive::<Decimal128Type>(),
    );
    if let Some(narrow) = narrow {
        let limit = 10_u128.pow(u32::from(precision));
        let values = std::iter::zip(left.values(), right.values());
        let values = values.map(|(left, right)| narrow(*left, *right).filter(|value| value.unsigned_abs() < limit));
        // A value that is too large may belong to a row that is NULL.
        if let Some(values) = values.collect::<Option<Vec<i128>>>() {
            let nulls = NullBuffer::union(left.nulls(), right.nulls());
            let result = Decimal128Array::new(values.into(), nulls);
            return array_result(result.with_precision_and_scale(precision, scale)?);
        }
    }
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
    array_result(Decimal128Array::from(result).with_precision_and_scale(precision, scale)?)
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
    array_result(Decimal128Array::from(result).with_precision_and_scale(precision, scale)?)
}

/// Returns `dividend * 10^shift / divisor`, rounded half away from zero, or `None` if it is too large.
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
        dividend = dividend.checked_mul(power_of_ten(shift)?)?;
    } else {
        divisor = divisor.checked_mul(power_of_ten(-shift)?)?;
    }
    half_up(dividend, divisor)?.to_i128()
}
