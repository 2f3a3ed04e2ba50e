//! Dates, times and timestamps as text.
//!
//! Parsed: `2024-01-01`, `2024-01-01 10:20`, `2024-01-01 10:20:30.123456`, with `T` instead of the space and with `Z`
//! or an offset at the end; years 1 to 9999; fractions beyond the microsecond are truncated. Written as in Flink:
//! always with seconds, and with as few digits of the fraction as needed. The calendar is the proleptic Gregorian one
//! ([`millstream_proto::civil`]).

use millstream_proto::civil::{civil_from_days, days_from_civil, days_in_month};

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// Separator between date and time: the option `json.timestamp-format.standard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampStyle {
    /// `2024-01-01 00:00:00.123`
    Sql,
    /// `2024-01-01T00:00:00.123`
    Iso8601,
}

/// Parses a timestamp to microseconds since the epoch, UTC. `None` if it is malformed or outside of the years 1 to
/// 9999.
pub fn parse_timestamp(text: &[u8]) -> Option<i64> {
    let days = i64::from(parse_date(text.get(..10)?)?);
    let rest = &text[10..];
    if rest.is_empty() {
        return Some(days * DAY_US);
    }
    if !matches!(rest[0], b' ' | b'T' | b't') {
        return None;
    }
    let (time_us, zone) = parse_time_prefix(&rest[1..])?;
    let offset_us = parse_zone(zone)?;
    Some(days * DAY_US + time_us - offset_us)
}

/// Parses a date to days since the epoch.
pub(super) fn parse_date(text: &[u8]) -> Option<i32> {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = text else {
        return None;
    };
    let year = i64::from(digits(y0, y1)?) * 100 + i64::from(digits(y2, y3)?);
    let (month, day) = (u32::from(digits(m0, m1)?), u32::from(digits(d0, d1)?));
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    i32::try_from(days_from_civil(year, month, day)).ok()
}

/// Parses a time to microseconds since midnight.
pub(super) fn parse_time(text: &[u8]) -> Option<i64> {
    let (time_us, rest) = parse_time_prefix(text)?;
    rest.is_empty().then_some(time_us)
}

/// Parses `HH:MM[:SS[.fraction]]` to microseconds since midnight. Returns the rest of the text too.
fn parse_time_prefix(text: &[u8]) -> Option<(i64, &[u8])> {
    let (&[h0, h1, b':', m0, m1], mut rest) = text.split_first_chunk::<5>()? else {
        return None;
    };
    let (hour, minute) = (digits(h0, h1)?, digits(m0, m1)?);
    let mut second = 0;
    let mut fraction_us = 0;
    if let [b':', s0, s1, after @ ..] = rest {
        second = digits(*s0, *s1)?;
        rest = after;
        if let [b'.' | b',', after @ ..] = rest {
            let count = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if count == 0 {
                return None;
            }
            for digit in after[..count].iter().chain(std::iter::repeat(&b'0')).take(6) {
                fraction_us = fraction_us * 10 + i64::from(digit - b'0');
            }
            rest = &after[count..];
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    Some((seconds * 1_000_000 + fraction_us, rest))
}

/// Parses an offset to microseconds east of UTC: empty, `Z`, `+02`, `+0200`, `+02:00`.
fn parse_zone(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hour, minute) = match rest {
        &[h0, h1] => (digits(h0, h1)?, 0),
        &[h0, h1, m0, m1] | &[h0, h1, b':', m0, m1] => (digits(h0, h1)?, digits(m0, m1)?),
        _ => return None,
    };
    if hour > 18 || minute > 59 {
        return None;
    }
    Some(sign * (i64::from(hour) * 60 + i64::from(minute)) * 60_000_000)
}

fn digits(tens: u8, ones: u8) -> Option<u8> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| tens * 10 + ones)
}

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

fn two_digits(value: u8) -> [u8; 2] {
    let at = usize::from(value) * 2;
    [PAIRS[at], PAIRS[at + 1]]
}

/// Appends a date given in days since the epoch.
pub(super) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    let (m, d) = (two_digits(month as u8), two_digits(day as u8));
    if (0..=9999).contains(&year) {
        let (y0, y1) = (two_digits((year / 100) as u8), two_digits((year % 100) as u8));
        out.extend_from_slice(&[y0[0], y0[1], y1[0], y1[1], b'-', m[0], m[1], b'-', d[0], d[1]]);
    } else {
        out.extend_from_slice(format!("{year:05}").as_bytes());
        out.extend_from_slice(&[b'-', m[0], m[1], b'-', d[0], d[1]]);
    }
}

/// Appends `HH:MM:SS`, and the fraction without trailing zeros.
pub(super) fn write_time(time_us: i64, out: &mut Vec<u8>) {
    let (seconds, mut fraction_us) = (time_us / 1_000_000, (time_us % 1_000_000) as u32);
    let (h, m, s) = (
        two_digits((seconds / 3600) as u8),
        two_digits((seconds / 60 % 60) as u8),
        two_digits((seconds % 60) as u8),
    );
    out.extend_from_slice(&[h[0], h[1], b':', m[0], m[1], b':', s[0], s[1]]);
    if fraction_us != 0 {
        let mut width = 6;
        while fraction_us % 10 == 0 {
            fraction_us /= 10;
            width -= 1;
        }
        let mut text = [b'0'; 7];
        text[0] = b'.';
        for index in (1..=width).rev() {
            text[index] = b'0' + (fraction_us % 10) as u8;
            fraction_us /= 10;
        }
        out.extend_from_slice(&text[..=width]);
    }
}

/// Appends a timestamp given in microseconds since the epoch, with `Z` if `utc`.
pub(super) fn write_timestamp(timestamp_us: i64, style: TimestampStyle, utc: bool, out: &mut Vec<u8>) {
    write_date(timestamp_us.div_euclid(DAY_US), out);
    out.push(match style {
        TimestampStyle::Sql => b' ',
        TimestampStyle::Iso8601 => b'T',
    });
    write_time(timestamp_us.rem_euclid(DAY_US), out);
    if utc {
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected_us: i64, written: &str) {
        assert_eq!(parse_timestamp(text.as_bytes()), Some(expected_us), "{text}");
        let mut out = Vec::new();
        write_timestamp(expected_us, TimestampStyle::Sql, false, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), written);
    }

    #[test]
    fn timestamps_are_read_in_all_spellings_and_written_in_one() {
        check("1970-01-01 00:00:00", 0, "1970-01-01 00:00:00");
        check("1970-01-01", 0, "1970-01-01 00:00:00");
        check(
            "2024-01-01 00:00:00.123",
            1_704_067_200_123_000,
            "2024-01-01 00:00:00.123",
        );
        check(
            "2024-01-01T00:00:00.123456789",
            1_704_067_200_123_456,
            "2024-01-01 00:00:00.123456",
        );
        check("2024-02-29 12:30", 1_709_209_800_000_000, "2024-02-29 12:30:00");
        check(
            "2024-01-01T02:00:00+02:00",
            1_704_067_200_000_000,
            "2024-01-01 00:00:00",
        );
        check("2024-01-01T00:00:00Z", 1_704_067_200_000_000, "2024-01-01 00:00:00");
        check("0001-01-01 00:00:00", -62_135_596_800_000_000, "0001-01-01 00:00:00");
        check(
            "9999-12-31 23:59:59.999999",
            253_402_300_799_999_999,
            "9999-12-31 23:59:59.999999",
        );
    }

    #[test]
    fn malformed_timestamps_are_refused() {
        for text in [
            "",
            "2024",
            "2024-13-01",
            "2023-02-29",
            "2024-01-01 24:00:00",
            "2024-01-01 00:00:60",
            "0000-01-01",
            "2024-01-01 00:00:00.",
            "2024-01-01 00:00:00 x",
            "2024-01-01x00:00:00",
            "20240101",
            "2024-01-01 00:00:00+99:00",
            "é024-01-01",
        ] {
            assert_eq!(parse_timestamp(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_day_survives_the_round_trip() {
        let last = i64::from(parse_date(b"9999-12-31").unwrap());
        let first = i64::from(parse_date(b"0001-01-01").unwrap());
        for days in (first..=last).step_by(97) {
            let mut out = Vec::new();
            write_date(days, &mut out);
            assert_eq!(parse_date(&out).map(i64::from), Some(days));
        }
    }
}
