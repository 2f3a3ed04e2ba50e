//! Conversions of values.

use super::Value;
use super::digits::{grouped, rounded, scientific};
use super::pieces::Conversion;
use crate::functions::value_text::double_text;

/// Fills a text up to the width with spaces.
pub(super) fn padded(text: String, conversion: &Conversion) -> Option<String> {
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
    pub(super) fn apply(&self, value: &Value) -> Option<String> {
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
            ('s', Value::Double(value)) => double_text(*value),
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
