//! `INTERVAL '...' unit [TO unit]` in Flink's form: the text has one number per unit, with the separators of a clock.

use datafusion::sql::sqlparser::ast::{DateTimeField, Expr, Interval, UnaryOperator, Value, ValueWithSpan};

use crate::ast::not_written;

/// The length of an interval literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Months(i64),
    Microseconds(i64),
}

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Returns true if the first unit of a literal is an hour or shorter.
pub(crate) fn is_within_day(interval: &Interval) -> bool {
    let first = interval.leading_field.as_ref().and_then(unit);
    first.is_some_and(|first| match UNITS[first] {
        Unit::Micros(length) => length < DAY,
        Unit::Seconds => true,
        Unit::Months(_) => false,
    })
}

/// Returns the length of a literal, or the reason why it is invalid.
pub(crate) fn span(interval: &Interval) -> Result<Span, String> {
    // `INTERVAL -'1' DAY` has the sign before the text.
    let (is_negated, value) = match interval.value.as_ref() {
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => (true, expr.as_ref()),
        Expr::UnaryOp {
            op: UnaryOperator::Plus,
            expr,
        } => (false, expr.as_ref()),
        value => (false, value),
    };
    let text = match value {
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text) | Value::Number(text, _),
            ..
        }) => text.trim(),
        other => {
            return Err(format!(
                "an interval needs a text literal, such as INTERVAL '10' SECOND{}",
                not_written(other)
            ));
        }
    };
    let Some(leading) = &interval.leading_field else {
        return Err(format!(
            "INTERVAL '{text}' needs a unit behind the quotes; write it as {}",
            meant(text, None)
        ));
    };
    let wrong = || {
        let units = unit(leading).zip(interval.last_field.as_ref().map_or(Some(usize::MAX), unit));
        format!("`{interval}` is not an interval; write it as {}", meant(text, units))
    };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let first = unit(leading).ok_or_else(|| format!("`{leading}` is not a unit of an interval"))?;
    let last = match &interval.last_field {
        None => first,
        Some(field) => unit(field)
            .filter(|last| *last > first && *last <= LAST_OF_RANGE)
            .ok_or_else(wrong)?,
    };
    // Each part of the text belongs to one unit; months and days cannot be combined.
    let units = &UNITS[first..=last];
    let parts: Vec<&str> = if units.len() == 1 {
        vec![digits]
    } else {
        digits.split(['-', ' ', ':']).collect()
    };
    let mixes = first <= 1 && last > 1;
    if parts.len() != units.len() || mixes {
        return Err(wrong());
    }
    let mut months = 0_i64;
    let mut micros = 0_i64;
    for (part, unit) in parts.iter().zip(units) {
        let value = match unit {
            Unit::Seconds => seconds(part).ok_or_else(wrong)?,
            Unit::Months(count) | Unit::Micros(count) => {
                let number: i64 = part.parse().map_err(|_| wrong())?;
                if number < 0 {
                    return Err(wrong());
                }
                number.checked_mul(*count).ok_or_else(wrong)?
            }
        };
        let total = if matches!(unit, Unit::Months(_)) {
            &mut months
        } else {
            &mut micros
        };
        *total = total.checked_add(value).ok_or_else(wrong)?;
    }
    let sign = if negative == is_negated { 1 } else { -1 };
    Ok(if matches!(UNITS[first], Unit::Months(_)) {
        Span::Months(months * sign)
    } else {
        Span::Microseconds(micros * sign)
    })
}

/// Returns a literal of this length that every parser reads alike.
pub(crate) fn canonical(span: Span) -> Expr {
    let (count, unit) = match span {
        Span::Months(count) => (count, DateTimeField::Month),
        Span::Microseconds(count) if count % SECOND == 0 => (count / SECOND, DateTimeField::Second),
        Span::Microseconds(count) => (count, DateTimeField::Microsecond),
    };
    Expr::Interval(Interval {
        value: Box::new(crate::ast::text(count.to_string())),
        leading_field: Some(unit),
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

/// Returns the literal that an invalid text was probably meant to be, in a form that [`span`] accepts. `units` are the
/// given units; the second is `usize::MAX` if there is one only.
fn meant(text: &str, units: Option<(usize, usize)>) -> String {
    if let Some((number, unit)) = counted(text) {
        return format!("INTERVAL '{number}' {}", NAMES[unit]);
    }
    let number: String = text
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    // A longer number would be refused.
    let number = if (1..=9).contains(&number.len()) {
        number.as_str()
    } else {
        "10"
    };
    match units {
        None => format!("INTERVAL '{number}' SECOND"),
        Some((first, usize::MAX)) => format!("INTERVAL '{number}' {}", NAMES[first]),
        Some((first, last)) if first < last && last <= LAST_OF_RANGE && (first > 1 || last <= 1) => {
            let mut value = number.to_string();
            for unit in first + 1..=last {
                value.push_str(match unit {
                    1 => "-1",
                    3 => " 01",
                    _ => ":01",
                });
            }
            format!("INTERVAL '{value}' {} TO {}", NAMES[first], NAMES[last])
        }
        // Months and days cannot be combined, and a range goes from the coarser unit to the finer.
        Some((first, _)) => format!("INTERVAL '{number}' {}", NAMES[first]),
    }
}

/// Reads `10 seconds`, `1 day 2 hours`, `10s`: the sum, in the finest unit that is named.
fn counted(text: &str) -> Option<(i64, usize)> {
    let mut rest = text.trim();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        parts.push((number, word(&rest[..letters])?));
        rest = rest[letters..].trim_start_matches([',', ' ']);
    }
    let size = |unit: usize| match UNITS[unit] {
        Unit::Months(count) => (true, count),
        Unit::Micros(count) => (false, count),
        Unit::Seconds => (false, SECOND),
    };
    let finest = parts.iter().map(|(_, unit)| *unit).min_by_key(|unit| size(*unit).1)?;
    let (are_months, divisor) = size(finest);
    let mut sum = 0_i64;
    for (number, unit) in parts {
        let (is_months, factor) = size(unit);
        if is_months != are_months {
            return None;
        }
        sum = sum.checked_add(number.checked_mul(factor / divisor)?)?;
    }
    Some((sum, finest))
}

/// Returns the unit that a word inside the quotes names.
fn word(word: &str) -> Option<usize> {
    Some(match word.to_ascii_lowercase().as_str() {
        "y" | "yr" | "yrs" | "year" | "years" => 0,
        "mon" | "mons" | "month" | "months" => 1,
        "d" | "day" | "days" => 2,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3,
        "m" | "min" | "mins" | "minute" | "minutes" => 4,
        "s" | "sec" | "secs" | "second" | "seconds" => LAST_OF_RANGE,
        "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 6,
        "us" | "micro" | "micros" | "microsecond" | "microseconds" => 7,
        "w" | "week" | "weeks" => 8,
        "q" | "quarter" | "quarters" => 9,
        _ => return None,
    })
}

/// Reads seconds such as `3` or `3.5` as microseconds.
fn seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    whole.parse::<i64>().ok()?.checked_mul(SECOND)?.checked_add(micros)
}

enum Unit {
    Months(i64),
    Micros(i64),
    Seconds,
}

/// Units from the coarsest to the finest: `A TO B` comprises all units between them. The last ones cannot be part of a
/// range.
const UNITS: &[Unit] = &[
    Unit::Months(12),
    Unit::Months(1),
    Unit::Micros(DAY),
    Unit::Micros(HOUR),
    Unit::Micros(MINUTE),
    Unit::Seconds,
    Unit::Micros(1_000),
    Unit::Micros(1),
    Unit::Micros(7 * DAY),
    Unit::Months(3),
];

/// Keywords of [`UNITS`].
const NAMES: [&str; UNITS.len()] = [
    "YEAR",
    "MONTH",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
    "MICROSECOND",
    "WEEK",
    "QUARTER",
];

/// Index of seconds, the finest unit of a range.
const LAST_OF_RANGE: usize = 5;

/// Index into [`UNITS`].
fn unit(field: &DateTimeField) -> Option<usize> {
    Some(match field {
        DateTimeField::Year | DateTimeField::Years => 0,
        DateTimeField::Month | DateTimeField::Months => 1,
        DateTimeField::Day | DateTimeField::Days => 2,
        DateTimeField::Hour | DateTimeField::Hours => 3,
        DateTimeField::Minute | DateTimeField::Minutes => 4,
        DateTimeField::Second | DateTimeField::Seconds => LAST_OF_RANGE,
        DateTimeField::Millisecond | DateTimeField::Milliseconds => 6,
        DateTimeField::Microsecond | DateTimeField::Microseconds => 7,
        DateTimeField::Week(_) | DateTimeField::Weeks => 8,
        DateTimeField::Quarter => 9,
        _ => return None,
    })
}
