//! Digits of numbers.

/// Inserts a comma between groups of three digits before the point.
pub(super) fn grouped(digits: &str) -> String {
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
pub(super) fn rounded(digits: &str, precision: usize) -> String {
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
pub(super) fn scientific(size: f64, precision: usize) -> String {
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
