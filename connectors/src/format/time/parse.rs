//! Parsing of dates, times and timestamps.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use millstream_proto::civil::{days_from_civil, days_in_month};

use super::DAY_US;

/// Parses a timestamp to microseconds since the epoch, UTC. `None` if it is malformed or outside of the years 1 to
/// 9999.
pub fn parse_timestamp(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let days = i64::from(parse_date(date)?);
    let time = match rest {
        [] => return Some(days * DAY_US),
        [b' ' | b'T' | b't', time @ ..] => time,
        _ => return None,
    };
    let (time_us, zone) = parse_time_prefix(time)?;
    let offset_us = parse_zone(zone)?;
    Some(days * DAY_US + time_us - offset_us)
}

/// The date that was parsed last, since consecutive timestamps often have the same.
pub(in crate::format) struct LastDate {
    text: [u8; 10],
    /// Its start in microseconds since the epoch.
    start_us: i64,
}

impl Default for LastDate {
    fn default() -> Self {
        Self {
            text: *b"1970-01-01",
            start_us: 0,
        }
    }
}

impl LastDate {
    /// Parses a timestamp that is followed by a quote, in the usual spellings: with seconds, a fraction of up to six
    /// digits or none, and `Z` or nothing at the end. Returns it in microseconds since the epoch, and its length.
    #[inline]
    pub(in crate::format) fn timestamp(&mut self, text: &[u8]) -> Option<(i64, usize)> {
        let (&[b' ' | b'T', h0, h1, b':', m0, m1, b':', s0, s1], rest) = text.get(10..)?.split_first_chunk::<9>()?
        else {
            return None;
        };
        let (hour, minute, second) = (digits(h0, h1)?, digits(m0, m1)?, digits(s0, s1)?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut fraction_us = 0;
        let mut at = 0;
        if rest.first() == Some(&b'.') {
            let mut unit_us = 1_000_000;
            while let Some(digit @ b'0'..=b'9') = rest.get(at + 1)
                && unit_us > 1
            {
                fraction_us = fraction_us * 10 + i64::from(digit - b'0');
                unit_us /= 10;
                at += 1;
            }
            if at == 0 {
                return None;
            }
            fraction_us *= unit_us;
            at += 1;
        }
        at += usize::from(rest.get(at) == Some(&b'Z'));
        if rest.get(at) != Some(&b'"') {
            return None;
        }
        let date = text.first_chunk::<10>()?;
        if *date != self.text {
            self.start_us = i64::from(parse_date(date)?) * DAY_US;
            self.text = *date;
        }
        let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
        Some((self.start_us + seconds * 1_000_000 + fraction_us, 19 + at))
    }
}

/// Parses a date to days since the epoch.
pub(in crate::format) fn parse_date(text: &[u8]) -> Option<i32> {
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
pub(in crate::format) fn parse_time(text: &[u8]) -> Option<i64> {
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
            let (fraction, after) = after.split_at_checked(count)?;
            if fraction.is_empty() {
                return None;
            }
            for digit in fraction.iter().chain(std::iter::repeat(&b'0')).take(6) {
                fraction_us = fraction_us * 10 + i64::from(digit - b'0');
            }
            rest = after;
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
