//! `PRINTF`: formats of Java's `Formatter`.
//!
//! The conversions are those of texts, booleans and numbers: `s S b B c C d o x X e E f g G n %`. As in Flink, an
//! invalid format, and a value that does not fit its conversion, give NULL.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, DecimalType, Float64Type, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type;

use super::scalar::{Scalar, Texts, array, array_result, utf8};

/// Returns all functions of this module.
pub(super) fn all() -> Vec<Scalar> {
    vec![Scalar::infallible("printf", format_and_values, utf8, printf)]
}

fn format_and_values(given: &[DataType]) -> Result<Vec<DataType>> {
    let [_, values @ ..] = given else {
        return plan_err!("takes a format and values");
    };
    let mut accepted = vec![DataType::Utf8];
    for value in values {
        accepted.push(match value {
            DataType::Null | DataType::Boolean | DataType::Decimal128(..) => value.clone(),
            text if text.is_string() => DataType::Utf8,
            number if number.is_integer() => number.clone(),
            number if number.is_floating() => DataType::Float64,
            other => {
                return plan_err!(
                    "formats texts, numbers and booleans, not {}: CAST the value to STRING",
                    sql_type::name(other)
                );
            }
        });
    }
    Ok(accepted)
}

/// A value to format.
#[derive(Clone, Debug)]
enum Value {
    Null,
    Text(String),
    Boolean(bool),
    /// A number and the number of bits of its type.
    Integer(i64, u32),
    Double(f64),
    /// The digits of a decimal.
    Decimal(String),
}

fn values_of(array: &ArrayRef) -> Result<Vec<Value>> {
    let bits = match array.data_type() {
        DataType::Int8 => 8,
        DataType::Int16 => 16,
        DataType::Int32 => 32,
        _ => 64,
    };
    let or_null = |value: Option<Value>| value.unwrap_or(Value::Null);
    Ok(match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>().iter();
            texts
                .map(|text| or_null(text.map(|text| Value::Text(text.into()))))
                .collect()
        }
        DataType::Boolean => array
            .as_boolean()
            .iter()
            .map(|value| or_null(value.map(Value::Boolean)))
            .collect(),
        DataType::Decimal128(precision, scale) => {
            let digits = |value| Value::Decimal(Decimal128Type::format_decimal(value, *precision, *scale));
            array
                .as_primitive::<Decimal128Type>()
                .iter()
                .map(|value| or_null(value.map(digits)))
                .collect()
        }
        number if number.is_integer() => {
            let numbers = cast(array, &DataType::Int64)?;
            let numbers = numbers.as_primitive::<Int64Type>().iter();
            numbers
                .map(|value| or_null(value.map(|value| Value::Integer(value, bits))))
                .collect()
        }
        DataType::Float64 => {
            let numbers = array.as_primitive::<Float64Type>().iter();
            numbers.map(|value| or_null(value.map(Value::Double))).collect()
        }
        _ => vec![Value::Null; array.len()],
    })
}

/// `PRINTF(format, values...)`.
fn printf(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let formats = Texts::of(arguments, 0)?;
    let columns = (1..arguments.args.len()).map(|index| values_of(&array(arguments, index)?));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 32 * arguments.number_rows);
    let mut last: Option<(&str, Option<Vec<Piece>>)> = None;
    for row in 0..arguments.number_rows {
        let Some(format) = formats.get(row) else {
            result.append_null();
            continue;
        };
        if last.as_ref().is_none_or(|(known, _)| *known != format) {
            last = Some((format, pieces(format)));
        }
        let values: Vec<&Value> = columns.iter().map(|column| &column[row]).collect();
        let pieces = last.as_ref().and_then(|(_, pieces)| pieces.as_ref());
        result.append_option(pieces.and_then(|pieces| formatted(pieces, &values)));
    }
    array_result(result.finish())
}

/// A part of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Conversion(Conversion),
}

/// The value that a conversion formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Next,
    /// From 0.
    Index(usize),
    /// `%<s`: the value of the conversion before.
    Previous,
}

/// A conversion such as `%-10.3f`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Conversion {
    place: Place,
    flags: String,
    width: Option<usize>,
    precision: Option<usize>,
    letter: char,
}

/// Maximum width and precision, so that a format cannot use up the memory.
const WIDTH_MAX: usize = 1 << 20;

/// Parses a format. Returns `None` if it is invalid.
fn pieces(format: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        if at > 0 {
            pieces.push(Piece::Literal(rest[..at].to_owned()));
        }
        rest = &rest[at + 1..];
        let mut place = Place::Next;
        if let Some((number, after)) = number(rest)
            && let Some(after) = after.strip_prefix('$')
        {
            place = Place::Index(number.checked_sub(1)?);
            rest = after;
        }
        let flags_end = rest.find(|next| !"-#+ 0,(<".contains(next))?;
        let mut flags = rest[..flags_end].to_owned();
        rest = &rest[flags_end..];
        if flags.contains('<') {
            place = Place::Previous;
            flags = flags.replace('<', "");
        }
        let mut repeated = flags.chars().enumerate();
        if repeated.any(|(index, flag)| flags[..index].contains(flag)) {
            return None;
        }
        let take_number = |rest: &mut &str| {
            let (number, after) = number(rest)?;
            *rest = after;
            Some(number)
        };
        let width = take_number(&mut rest);
        let precision = match rest.strip_prefix('.') {
            Some(after) => {
                rest = after;
                Some(take_number(&mut rest)?)
            }
            None => None,
        };
        if width.max(precision).unwrap_or(0) > WIDTH_MAX {
            return None;
        }
        let letter = rest
            .chars()
            .next()
            .filter(|letter| "sSbBcCdoxXeEfgGn%".contains(*letter))?;
        rest = &rest[letter.len_utf8()..];
        pieces.push(Piece::Conversion(Conversion {
            place,
            flags,
            width,
            precision,
            letter,
        }));
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Some(pieces)
}

/// Returns the number that a text begins with, and the text after it. A number does not begin with 0, which is a flag.
fn number(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|next: char| !next.is_ascii_digit()).unwrap_or(text.len());
    let digits = &text[..end];
    match digits.starts_with('0') && digits.len() > 1 {
        true => None,
        false => Some((digits.parse().ok()?, &text[end..])),
    }
}

fn formatted(pieces: &[Piece], values: &[&Value]) -> Option<String> {
    let mut result = String::new();
    let mut next = 0;
    let mut previous = None;
    for piece in pieces {
        let conversion = match piece {
            Piece::Literal(text) => {
                result.push_str(text);
                continue;
            }
            Piece::Conversion(conversion) => conversion,
        };
        match conversion.letter {
            'n' => {
                result.push('\n');
                continue;
            }
            '%' => {
                result.push_str(&padded("%".into(), conversion)?);
                continue;
            }
            _ => {}
        }
        let index = match conversion.place {
            Place::Index(index) => index,
            Place::Previous => previous?,
            Place::Next => {
                next += 1;
                next - 1
            }
        };
        previous = Some(index);
        result.push_str(&conversion.apply(values.get(index)?)?);
    }
    Some(result)
}

/// Fills a text up to the width with spaces.
fn padded(text: String, conversion: &Conversion) -> Option<String> {
    let is_left = conversion.flags.contains('-');
    match (conversion.width, is_left) {
        (None, true) => None,
        (None, false) => Some(text),
        (Some(width), true) => Some(format!("{text:<width$}")),
        (Some(width), false) => Some(format!("{text:>width$}")),
    }
}

impl Conversion {
    fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    /// Formats a value. Returns `None` if the value does not fit the conversion.
    fn apply(&self, value: &Value) -> Option<String> {
        let text = match self.letter {
            's' | 'S' | 'b' | 'B' | 'c' | 'C' => self.general(value)?,
            'd' | 'o' | 'x' | 'X' => return self.integer(value),
            _ => return self.floating(value),
        };
        let text = match self.letter.is_uppercase() {
            true => text.to_uppercase(),
            false => text,
        };
        padded(text, self)
    }

    fn general(&self, value: &Value) -> Option<String> {
        if self.flags.chars().any(|flag| flag != '-') {
            return None;
        }
        let text = match (self.letter.to_ascii_lowercase(), value) {
            ('s' | 'c', Value::Null) => "null".to_owned(),
            ('s', Value::Text(text)) => text.clone(),
            ('s', Value::Boolean(value)) => value.to_string(),
            ('s', Value::Integer(value, _)) => value.to_string(),
            ('s', Value::Double(value)) => super::json::double_text(*value),
            ('s', Value::Decimal(digits)) => digits.clone(),
            ('b', Value::Null) => "false".to_owned(),
            ('b', Value::Boolean(value)) => value.to_string(),
            ('b', _) => "true".to_owned(),
            ('c', Value::Integer(code, 8 | 16 | 32)) if self.precision.is_none() => {
                char::from_u32(u32::try_from(*code).ok()?)?.to_string()
            }
            _ => return None,
        };
        Some(match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text,
        })
    }

    fn integer(&self, value: &Value) -> Option<String> {
        let (number, bits) = match value {
            Value::Null => return self.null(),
            Value::Integer(number, bits) => (*number, *bits),
            _ => return None,
        };
        if self.precision.is_some() {
            return None;
        }
        if self.letter == 'd' {
            return self.signed(number < 0, number.unsigned_abs().to_string());
        }
        if self.has(',') || self.has('+') || self.has(' ') || self.has('(') {
            return None;
        }
        // Of a negative number, the two's complement in the size of its type.
        let mask = u64::MAX >> (64 - bits);
        let unsigned = u64::from_ne_bytes(number.to_ne_bytes()) & mask;
        let (prefix, digits) = match self.letter {
            'o' => ("0", format!("{unsigned:o}")),
            'x' => ("0x", format!("{unsigned:x}")),
            _ => ("0X", format!("{unsigned:X}")),
        };
        let prefix = if self.has('#') { prefix } else { "" };
        self.filled(prefix, digits, "")
    }

    fn floating(&self, value: &Value) -> Option<String> {
        let precision = self.precision.unwrap_or(6);
        let (number, digits) = match value {
            Value::Null => return self.null(),
            Value::Double(number) => (*number, None),
            Value::Decimal(digits) => (digits.parse::<f64>().ok()?, Some(digits)),
            _ => return None,
        };
        if !number.is_finite() {
            let name = if number.is_nan() { "NaN" } else { "Infinity" };
            let sign = match number < 0.0 {
                true => "-",
                false if self.has('+') && !number.is_nan() => "+",
                false => "",
            };
            return padded(format!("{sign}{name}"), self);
        }
        let is_negative = number.is_sign_negative();
        let size = number.abs();
        let text = match self.letter {
            'f' => match digits {
                Some(digits) => rounded(digits.trim_start_matches('-'), precision),
                None => rounded(&format!("{size}"), precision),
            },
            'e' | 'E' => scientific(size, precision),
            _ => {
                let precision = precision.max(1);
                match size == 0.0 || (1e-4..10f64.powi(i32::try_from(precision).ok()?)).contains(&size) {
                    true => {
                        let before = match size == 0.0 {
                            true => 1,
                            false => i64::try_from(format!("{}", size.trunc()).len()).ok()?,
                        };
                        let after = i64::try_from(precision).ok()? - before;
                        rounded(&format!("{size}"), usize::try_from(after).unwrap_or(0))
                    }
                    false => scientific(size, precision - 1),
                }
            }
        };
        let text = match self.letter.is_uppercase() {
            true => text.to_uppercase(),
            false => text,
        };
        self.signed(is_negative, text)
    }

    fn null(&self) -> Option<String> {
        padded("null".into(), self)
    }

    /// Adds groups, the sign and padding to a number.
    fn signed(&self, is_negative: bool, digits: String) -> Option<String> {
        let digits = match self.has(',') {
            true => grouped(&digits),
            false => digits,
        };
        let (before, after) = match is_negative {
            true if self.has('(') => ("(", ")"),
            true => ("-", ""),
            false if self.has('+') => ("+", ""),
            false if self.has(' ') => (" ", ""),
            false => ("", ""),
        };
        if self.has('+') && self.has(' ') {
            return None;
        }
        self.filled(before, digits, after)
    }

    /// Fills a number up to the width, with zeros after `before` if there is a flag for them.
    fn filled(&self, before: &str, digits: String, after: &str) -> Option<String> {
        let width = match (self.has('0'), self.width) {
            (true, None) => return None,
            (true, Some(_)) if self.has('-') => return None,
            (true, Some(width)) => width.saturating_sub(before.len() + after.len()),
            (false, _) => 0,
        };
        padded(format!("{before}{digits:0>width$}{after}"), self)
    }
}

/// Inserts a comma between groups of three digits before the point.
fn grouped(digits: &str) -> String {
    let (integer, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut result = String::with_capacity(digits.len() + integer.len() / 3);
    for (index, digit) in integer.chars().enumerate() {
        if index > 0 && (integer.len() - index).is_multiple_of(3) {
            result.push(',');
        }
        result.push(digit);
    }
    result + fraction
}

/// Rounds decimal digits half up, as Java does with the shortest digits of a DOUBLE.
fn rounded(digits: &str, precision: usize) -> String {
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.len() <= precision {
        let point = if precision > 0 { "." } else { "" };
        return format!("{integer}{point}{fraction:0<precision$}");
    }
    let is_up = fraction.as_bytes()[precision] >= b'5';
    let mut kept: Vec<u8> = integer.bytes().chain(fraction.bytes().take(precision)).collect();
    if is_up {
        let mut carry = true;
        for digit in kept.iter_mut().rev() {
            if !carry {
                break;
            }
            carry = *digit == b'9';
            *digit = if carry { b'0' } else { *digit + 1 };
        }
        if carry {
            kept.insert(0, b'1');
        }
    }
    let text: String = kept.into_iter().map(char::from).collect();
    match precision {
        0 => text,
        precision => {
            let (integer, fraction) = text.split_at(text.len() - precision);
            format!("{integer}.{fraction}")
        }
    }
}

/// Returns a number as `1.234560e+05`.
fn scientific(size: f64, precision: usize) -> String {
    let written = format!("{size:e}");
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let mut exponent = exponent.parse::<i32>().unwrap_or(0);
    let mut mantissa = rounded(mantissa, precision);
    if mantissa.starts_with("10") {
        mantissa = rounded("1", precision);
        exponent += 1;
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}
