//! Parsing of numbers. Whole numbers and decimals are never converted to floating point.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

/// Parses decimal digits with an optional sign; `12.0` and `1e3` are whole numbers too.
#[inline]
pub(super) fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || digits.len() > 18 {
        return parse_integer_general(text);
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return parse_integer_general(text);
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

#[cold]
fn parse_integer_general(text: &[u8]) -> Option<i64> {
    let scaled = Scaled::parse(text, 0).filter(|scaled| scaled.is_exact)?;
    i64::try_from(scaled.signed(scaled.value)).ok()
}

/// Parses a floating-point number, surrounded by whitespace or not.
pub(super) fn parse_float<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

/// Returns true if a text of digits was parsed as an infinite number. `Infinity` itself is a value.
pub(super) fn is_out_of_range(text: &[u8], is_infinite: bool) -> bool {
    let mut digits = text.trim_ascii().iter().skip_while(|byte| matches!(byte, b'+' | b'-'));
    is_infinite && digits.next().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// Parses an unscaled decimal, rounded half up to `scale`; `None` if the text is not a number or has too many digits.
pub(super) fn parse_decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let scaled = Scaled::parse(text, scale)?;
    let value = scaled.value.checked_add(i128::from(scaled.round_up))?;
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (value < limit).then_some(scaled.signed(value))
}

/// A number times a power of ten, truncated to a whole number.
struct Scaled {
    is_negative: bool,
    /// Absolute value.
    value: i128,
    /// True if only zeros were truncated.
    is_exact: bool,
    /// True if the first truncated digit is 5 or more.
    round_up: bool,
}

impl Scaled {
    /// Parses digits with an optional sign, point and exponent, times 10 to the power of `scale`.
    fn parse(text: &[u8], scale: i8) -> Option<Self> {
        let mut parts = text.splitn(2, |byte| matches!(byte, b'e' | b'E'));
        let mantissa = parts.next()?;
        let exponent = match parts.next() {
            Some(exponent) => std::str::from_utf8(exponent).ok()?.parse::<i32>().ok()?,
            None => 0,
        };
        let (is_negative, digits) = match mantissa {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
        // Number of digits before the truncated ones.
        let integer_digits = i64::try_from(point).ok()? + i64::from(exponent) + i64::from(scale);
        let mut scaled = Self {
            is_negative,
            value: 0,
            is_exact: true,
            round_up: false,
        };
        let mut count: i64 = 0;
        for (index, byte) in digits.iter().enumerate() {
            if index == point {
                continue;
            }
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            if count < integer_digits {
                scaled.value = scaled.value.checked_mul(10)?.checked_add(i128::from(digit))?;
            } else {
                scaled.is_exact &= digit == 0;
                scaled.round_up |= count == integer_digits && digit >= 5;
            }
            count += 1;
        }
        if count == 0 {
            return None;
        }
        if scaled.value != 0 && integer_digits > count {
            let missing = u32::try_from(integer_digits - count).ok()?;
            scaled.value = scaled.value.checked_mul(10_i128.checked_pow(missing)?)?;
        }
        Some(scaled)
    }

    fn signed(&self, value: i128) -> i128 {
        match self.is_negative {
            true => -value,
            false => value,
        }
    }
}
