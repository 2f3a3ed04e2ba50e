//! JSON text in the form in which Flink writes it: without space, the members of objects in the order of their names,
//! numbers with a fraction or an exponent as Java's `BigDecimal` writes them.

use std::borrow::Cow;
use std::fmt::Write;

use super::reader::{elements, members, unescaped};
use crate::functions::value_text::double_text;

/// Appends a checked value. No digit of a number is lost.
#[recursive::recursive]
pub(super) fn value(written: &str, out: &mut String) {
    match written.as_bytes().first() {
        Some(b'{') => {
            let mut members = members(written);
            members.sort_by(|(left, _), (right, _)| name_order(left, right));
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                string(name, out);
                out.push(':');
                value(member, out);
            }
            out.push('}');
        }
        Some(b'[') => {
            out.push('[');
            for (index, element) in elements(written).into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                value(element, out);
            }
            out.push(']');
        }
        Some(b'"') => string(&unescaped(&written[1..written.len() - 1]), out),
        Some(b'-' | b'0'..=b'9') => out.push_str(&number(written)),
        _ => out.push_str(written),
    }
}

/// Compares names of members as Java compares strings, by UTF-16 units.
pub(super) fn name_order(left: &str, right: &str) -> std::cmp::Ordering {
    match left.is_ascii() || right.is_ascii() {
        true => left.cmp(right),
        false => left.encode_utf16().cmp(right.encode_utf16()),
    }
}

/// Appends a string with its quotes.
pub(super) fn string(text: &str, out: &mut String) {
    out.push('"');
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !matches!(byte, b'"' | b'\\' | 0..=0x1f) {
            continue;
        }
        out.push_str(&text[start..at]);
        start = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            other => {
                let _infallible = write!(out, "\\u{other:04X}");
            }
        }
    }
    out.push_str(&text[start..]);
    out.push('"');
}

/// Returns a number of a JSON text as Java's `BigDecimal` or `BigInteger` writes it.
pub(super) fn number(written: &str) -> Cow<'_, str> {
    if !written.contains(['.', 'e', 'E']) {
        return Cow::Borrowed(if written == "-0" { "0" } else { written });
    }
    let (sign, unsigned) = match written.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", written),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    // Java has no larger exponents.
    let Ok(exponent) = exponent.parse::<i32>().map(i64::from) else {
        return Cow::Borrowed(written);
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [integer, fraction].concat();
    let digits = match digits.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let sign = if digits == "0" { "" } else { sign };
    let scale = i64::try_from(fraction.len()).unwrap_or(i64::MAX) - exponent;
    let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let adjusted = count - 1 - scale;
    if scale >= 0 && adjusted >= -6 {
        let plain = match usize::try_from(scale).unwrap_or(0) {
            0 => digits.to_owned(),
            scale if digits.len() > scale => {
                let (integer, fraction) = digits.split_at(digits.len() - scale);
                format!("{integer}.{fraction}")
            }
            scale => format!("0.{digits:0>scale$}"),
        };
        // The usual case: the number is written like this already.
        return match written.len() == sign.len() + plain.len() && written.ends_with(&plain) {
            true => Cow::Borrowed(written),
            false => Cow::Owned(format!("{sign}{plain}")),
        };
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let exponent = match adjusted {
        0 => String::new(),
        adjusted => format!("E{adjusted:+}"),
    };
    Cow::Owned(format!("{sign}{first}{point}{rest}{exponent}"))
}

/// Appends a DOUBLE. NaN and infinities are strings.
pub(super) fn double(value: f64, out: &mut String) {
    let text = double_text(value);
    match value.is_finite() {
        true => out.push_str(&number(&text)),
        false => string(&text, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_in_java() {
        for (written, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("1.50", "1.50"),
            ("-1.50", "-1.50"),
            ("-0.0", "0.0"),
            ("0.1234567890123456789", "0.1234567890123456789"),
            ("1e5", "1E+5"),
            ("1.0e5", "1.0E+5"),
            ("15e-1", "1.5"),
            ("12.5E1", "125"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1E-7"),
            ("0.00000010", "1.0E-7"),
            ("1e400", "1E+400"),
            ("0e3", "0E+3"),
            ("1e99999999999", "1e99999999999"),
        ] {
            assert_eq!(number(written), expected, "{written}");
        }
    }

    #[test]
    fn doubles_are_written_as_in_java() {
        for (number, expected) in [
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E+7"),
            (1.5e-5, "0.000015"),
            (1e-5, "0.000010"),
            (1e-10, "1.0E-10"),
            (f64::NAN, "\"NaN\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            let mut out = String::new();
            double(number, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn values_are_compact_and_sorted() {
        let mut out = String::new();
        value(r#"{ "b" : [ 1 , "x\u00e4\/\u0001" ] , "a" : null, "a": {} }"#, &mut out);
        assert_eq!(out, r#"{"a":{},"b":[1,"xä/\u0001"]}"#);
    }
}
