//! Values of the types `INTERVAL YEAR TO MONTH` and `INTERVAL DAY TO SECOND`: their text, and their numbers in records.
//!
//! An interval is a number of months, or of microseconds ([`sql_type::year_month`](crate::sql_type::year_month),
//! [`sql_type::day_time`](crate::sql_type::day_time)); the two kinds are not compared. Their texts are Flink's: `+1-06`
//! for years and months, `+12 03:04:05.678` for days to milliseconds. Records of JSON and CSV have numbers of months
//! and of milliseconds, as in Flink; microseconds are cut off towards zero in texts and records.

use std::fmt::Write;

const DAY_US: i64 = 86_400_000_000;

/// Returns the whole milliseconds of an interval of microseconds.
pub fn milliseconds(microseconds: i64) -> i64 {
    microseconds / 1_000
}

/// Writes an interval of months: `+1-06`.
pub fn write_months(months: i32, out: &mut impl Write) -> std::fmt::Result {
    let (sign, months) = (if months < 0 { '-' } else { '+' }, months.unsigned_abs());
    write!(out, "{sign}{}-{:02}", months / 12, months % 12)
}

/// Writes an interval of microseconds: `+12 03:04:05.678`.
pub fn write_microseconds(microseconds: i64, out: &mut impl Write) -> std::fmt::Result {
    let sign = if microseconds < 0 { '-' } else { '+' };
    let millis = microseconds.unsigned_abs() / 1_000;
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    write!(
        out,
        "{sign}{} {:02}:{:02}:{:02}.{millis:03}",
        hours / 24,
        hours % 24,
        minutes % 60,
        seconds % 60
    )
}

/// Parses the text of an interval of months; the sign `+` may be missing. Months are 0 to 11.
pub fn parse_months(text: &str) -> Option<i32> {
    let (sign, rest) = signed(text);
    let (years, months) = rest.split_once('-')?;
    let months = below(months, 12)?;
    let total = number(years)?.checked_mul(12)?.checked_add(months)?;
    i32::try_from(sign * total).ok()
}

/// Parses the text of an interval of microseconds; the sign `+` and the fraction may be missing.
pub fn parse_microseconds(text: &str) -> Option<i64> {
    let (sign, rest) = signed(text);
    let (days, clock) = rest.split_once(' ')?;
    let mut parts = clock.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    if fraction.len() > 6 {
        return None;
    }
    let micros = number(&format!("{fraction:0<6}"))?;
    let seconds = (below(hours, 24)? * 60 + below(minutes, 60)?) * 60 + below(seconds, 60)?;
    let within_day = seconds * 1_000_000 + micros;
    let days = sign * number(days)?;
    days.checked_mul(DAY_US)?.checked_add(sign * within_day)
}

/// Reads the months of a record: a number, or the text of an interval.
pub(crate) fn read_months(text: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(text).ok()?;
    text.trim().parse().ok().or_else(|| parse_months(text))
}

/// Reads the microseconds of a record: a number of milliseconds, or the text of an interval.
pub(crate) fn read_microseconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    match text.trim().parse::<i64>() {
        Ok(milliseconds) => milliseconds.checked_mul(1_000),
        Err(_) => parse_microseconds(text),
    }
}

/// Returns the sign of a text, and the text without it.
fn signed(text: &str) -> (i64, &str) {
    let text = text.trim();
    match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn number(digits: &str) -> Option<i64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

fn below(digits: &str, limit: i64) -> Option<i64> {
    number(digits).filter(|number| *number < limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_flink_and_can_be_read() {
        #[track_caller]
        fn months(months: i32, expected: &str) {
            let mut text = String::new();
            write_months(months, &mut text).unwrap();
            assert_eq!(text, expected);
            assert_eq!(parse_months(expected), Some(months));
        }
        months(0, "+0-00");
        months(18, "+1-06");
        months(-14, "-1-02");
        months(i32::MAX, "+178956970-07");
        months(i32::MIN, "-178956970-08");

        #[track_caller]
        fn micros(micros: i64, expected: &str) {
            let mut text = String::new();
            write_microseconds(micros, &mut text).unwrap();
            assert_eq!(text, expected);
            assert_eq!(parse_microseconds(expected), Some(micros / 1_000 * 1_000));
        }
        micros(0, "+0 00:00:00.000");
        micros(1_047_845_678_901, "+12 03:04:05.678");
        micros(-5_400_000_000, "-0 01:30:00.000");
        micros(i64::MAX, "+106751991 04:00:54.775");
        micros(i64::MIN, "-106751991 04:00:54.775");
    }

    #[test]
    fn other_texts_are_no_intervals() {
        for text in ["", "1", "1-12", "1-", "-", "1-1-1", "178956970-08", "a-1", "1-+1"] {
            assert_eq!(parse_months(text), None, "{text}");
        }
        for text in [
            "",
            "1",
            "1 2",
            "1 2:3",
            "1 24:00:00",
            "1 00:60:00",
            "1 00:00:60",
            "1 1:2:3:4",
            "1 1:2:3.1234567",
            "106751991 04:00:54.775808",
            "1 -1:00:00",
        ] {
            assert_eq!(parse_microseconds(text), None, "{text}");
        }
        assert_eq!(parse_months(" 2-3 "), Some(27));
        assert_eq!(parse_microseconds("1 2:3:4.5"), Some(93_784_500_000));
        assert_eq!(parse_microseconds("0 00:00:00.000001"), Some(1));
    }
}
