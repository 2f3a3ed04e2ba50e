//! Other forms of numbers and strings: `HEX`, `UNHEX`, `BIN`, `ENCODE`, `DECODE`, `SHA1`, `INET_ATON`, `INET_NTOA`.

use std::fmt::Write;

use datafusion::arrow::array::{Array, AsArray, BinaryBuilder, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type;

use super::scalar::{Scalar, Texts, array, array_result, bigint, strings, utf8};

mod charset;
mod sha1;

use charset::Charset;

/// Returns all functions of this module.
pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::infallible("hex", integer_or_text, utf8, hex),
        Scalar::infallible("unhex", strings::<1>, binary, unhex),
        Scalar::infallible("bin", integer, utf8, bin),
        Scalar::fallible("$encode", strings::<2>, binary, encode).checked_by(charsets),
        Scalar::fallible("$decode", bytes_and_text, utf8, decode).checked_by(charsets),
        Scalar::infallible("sha1", strings::<1>, utf8, |arguments| {
            let texts = Texts::of(arguments, 0)?;
            let digests =
                (0..arguments.number_rows).map(|row| Some(lower_hex(&sha1::digest(texts.get(row)?.as_bytes()))));
            array_result(digests.collect::<StringArray>())
        }),
        Scalar::infallible("inet_aton", strings::<1>, bigint, |arguments| {
            let texts = Texts::of(arguments, 0)?;
            let numbers = (0..arguments.number_rows).map(|row| address_number(texts.get(row)?));
            array_result(numbers.collect::<Int64Array>())
        }),
        Scalar::infallible("inet_ntoa", integer, utf8, |arguments| {
            map_integers(arguments, |number| {
                let [a, b, c, d] = u32::try_from(number).ok()?.to_be_bytes();
                Some(format!("{a}.{b}.{c}.{d}"))
            })
        }),
    ]
}

fn binary(_: &[DataType]) -> DataType {
    DataType::Binary
}

fn integer(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [number] if number.is_integer() || number.is_null() => Ok(vec![DataType::Int64]),
        [other] => plan_err!("takes an integer, not {}", sql_type::name(other)),
        _ => plan_err!("takes 1 argument, not {}", given.len()),
    }
}

fn integer_or_text(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [number] if number.is_integer() => Ok(vec![DataType::Int64]),
        [text] if text.is_string() || text.is_null() => Ok(vec![DataType::Utf8]),
        [DataType::Binary] => Ok(vec![DataType::Binary]),
        [other] => plan_err!("takes an integer or a STRING, not {}", sql_type::name(other)),
        _ => plan_err!("takes 1 argument, not {}", given.len()),
    }
}

fn bytes_and_text(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [bytes, _] if bytes.is_binary() || bytes.is_null() => Ok(vec![DataType::Binary, DataType::Utf8]),
        [other, _] => plan_err!("takes BYTES and a character set, not {}", sql_type::name(other)),
        _ => plan_err!("takes 2 arguments, not {}", given.len()),
    }
}

fn map_integers(arguments: &ScalarFunctionArgs, map: fn(i64) -> Option<String>) -> Result<ColumnarValue> {
    let numbers = array(arguments, 0)?;
    let texts = numbers.as_primitive::<Int64Type>().iter().map(|number| map(number?));
    array_result(texts.collect::<StringArray>())
}

fn hex_with(bytes: &[u8], digits: &[u8; 16]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(digits[usize::from(byte >> 4)]));
        text.push(char::from(digits[usize::from(byte & 15)]));
    }
    text
}

fn lower_hex(bytes: &[u8]) -> String {
    hex_with(bytes, b"0123456789abcdef")
}

/// `HEX(n)`, `HEX(text)`: hexadecimal digits of the number in two's complement, or of the text's bytes.
fn hex(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let upper_hex = |bytes: &[u8]| hex_with(bytes, b"0123456789ABCDEF");
    let values = array(arguments, 0)?;
    let texts: StringArray = match values.data_type() {
        DataType::Int64 => return map_integers(arguments, |number| Some(format!("{number:X}"))),
        DataType::Binary => values
            .as_binary::<i32>()
            .iter()
            .map(|bytes| bytes.map(upper_hex))
            .collect(),
        _ => {
            let texts = Texts::of(arguments, 0)?;
            let hex = (0..arguments.number_rows).map(|row| texts.get(row).map(|text| upper_hex(text.as_bytes())));
            hex.collect()
        }
    };
    array_result(texts)
}

/// `UNHEX(text)`: the bytes of hexadecimal digits; NULL for another character. Of an odd number of digits the first is
/// replaced by a zero byte, as in Flink.
fn unhex(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let mut result = BinaryBuilder::new();
    for row in 0..arguments.number_rows {
        result.append_option(texts.get(row).and_then(|text| {
            let digits = text.bytes().map(|byte| char::from(byte).to_digit(16));
            let digits = digits.collect::<Option<Vec<u32>>>()?;
            let is_odd = digits.len() % 2 == 1;
            let mut bytes = vec![0; usize::from(is_odd)];
            let pairs = digits[usize::from(is_odd)..].chunks_exact(2);
            bytes.extend(pairs.filter_map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()));
            Some(bytes)
        }));
    }
    array_result(result.finish())
}

/// `BIN(n)`: binary digits of the number in two's complement.
fn bin(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    map_integers(arguments, |number| {
        let mut digits = String::new();
        write!(digits, "{number:b}").ok()?;
        Some(digits)
    })
}

fn charset(name: &str) -> Result<Charset> {
    match Charset::of(name) {
        Some(charset) => Ok(charset),
        None => {
            exec_err!("`{name}` is not a character set; US-ASCII, ISO-8859-1, UTF-8, UTF-16BE, UTF-16LE and UTF-16 are")
        }
    }
}

/// Checks a constant character set.
fn charsets(arguments: &ScalarFunctionArgs) -> Result<()> {
    match Texts::of(arguments, 1)?.constant() {
        Some(name) => charset(name).map(drop),
        None => Ok(()),
    }
}

/// `ENCODE(text, charset)`: the bytes of a text.
fn encode(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (texts, names) = (Texts::of(arguments, 0)?, Texts::of(arguments, 1)?);
    let mut result = BinaryBuilder::new();
    for row in 0..arguments.number_rows {
        match (texts.get(row), names.get(row)) {
            (Some(text), Some(name)) => result.append_value(charset(name)?.encode(text)),
            _ => result.append_null(),
        }
    }
    array_result(result.finish())
}

/// `DECODE(bytes, charset)`: the text of bytes; bytes without a character become U+FFFD.
fn decode(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (bytes, names) = (array(arguments, 0)?, Texts::of(arguments, 1)?);
    let bytes = bytes.as_binary::<i32>();
    let texts = (0..arguments.number_rows).map(|row| match (bytes.is_valid(row), names.get(row)) {
        (true, Some(name)) => Ok(Some(charset(name)?.decode(bytes.value(row)))),
        _ => Ok(None),
    });
    array_result(texts.collect::<Result<StringArray>>()?)
}

/// Returns the number of an IPv4 address. Parts between the first and the last may be missing, as in MySQL.
fn address_number(text: &str) -> Option<i64> {
    let part = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
        // Leading zeros do not count.
        true => part
            .trim_start_matches('0')
            .parse::<u8>()
            .ok()
            .or((!part.is_empty() && part.bytes().all(|byte| byte == b'0')).then_some(0)),
        false => None,
    };
    let parts = text.split('.').map(part).collect::<Option<Vec<u8>>>()?;
    let bytes = match parts[..] {
        [d] => [0, 0, 0, d],
        [a, d] => [a, 0, 0, d],
        [a, b, d] => [a, b, 0, d],
        [a, b, c, d] => [a, b, c, d],
        _ => return None,
    };
    Some(i64::from(u32::from_be_bytes(bytes)))
}
