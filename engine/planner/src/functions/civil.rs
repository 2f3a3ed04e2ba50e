//! Civil dates, and their usual texts.
//!
//! The calendar is the proleptic Gregorian one ([`millstream_proto::civil`]).

pub(super) use millstream_proto::civil::{civil_from_days as civil, days_from_civil as days, days_in_month};

pub(super) const SECOND_US: i64 = 1_000_000;
pub(super) const MINUTE_US: i64 = 60 * SECOND_US;
pub(super) const HOUR_US: i64 = 60 * MINUTE_US;
pub(super) const DAY_US: i64 = 24 * HOUR_US;

/// Returns the day of the week: 1 for Monday, 7 for Sunday.
pub(super) fn iso_weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// Returns the ISO 8601 year and week of a day.
pub(super) fn iso_week(day: i64) -> (i64, i64) {
    // The week belongs to the year of its Thursday.
    let thursday = day + 4 - iso_weekday(day);
    let (year, _, _) = civil(thursday);
    (year, (thursday - days(year, 1, 1)) / 7 + 1)
}

fn number(rest: &mut &str, most: usize) -> Option<i64> {
    let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let value = rest[..digits].parse().ok()?;
    *rest = &rest[digits..];
    Some(value)
}

/// Parses a zone (`Z`, `+02`, `+0200`, `+02:00`) into microseconds east of UTC.
fn zone(rest: &mut &str) -> Option<i64> {
    if let Some(after) = rest.strip_prefix('Z') {
        *rest = after;
        return Some(0);
    }
    let sign = match rest.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    *rest = &rest[1..];
    let hours = number(rest, 2).filter(|hours| *hours <= 18)?;
    *rest = rest.strip_prefix(':').unwrap_or(rest);
    let minutes = if rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) {
        number(rest, 2).filter(|minutes| *minutes < 60 && (hours < 18 || *minutes == 0))?
    } else {
        0
    };
    Some(sign * (hours * HOUR_US + minutes * MINUTE_US))
}

/// Parses `2024-01-31`, `2024-01-31 10:20`, `2024-01-31 10:20:30.123456`, with a blank or a `T`, with or without a
/// zone.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, time) = match text.find([' ', 'T']) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    let (negative, digits) = match date.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, date),
    };
    let mut parts = digits.split('-').map(unsigned);
    let year = parts.next()?.filter(|year| *year < 200_000)?;
    let year = if negative { -year } else { year };
    let month = u32::try_from(parts.next()??).ok()?;
    let day = u32::try_from(parts.next()??).ok()?;
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let mut rest = time;
    let mut total = days(year, month, day) * DAY_US;
    if rest.is_empty() {
        return Some(total);
    }
    let hour = number(&mut rest, 2).filter(|hour| *hour < 24)?;
    rest = rest.strip_prefix(':')?;
    let minute = number(&mut rest, 2).filter(|minute| *minute < 60)?;
    total += hour * HOUR_US + minute * MINUTE_US;
    if let Some(after) = rest.strip_prefix(':') {
        rest = after;
        total += number(&mut rest, 2).filter(|second| *second < 60)? * SECOND_US;
        if let Some(after) = rest.strip_prefix('.') {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            total += format!("{:0<6}", &after[..digits]).get(..6)?.parse::<i64>().ok()?;
            rest = &after[digits..];
        }
    }
    if !rest.is_empty() {
        total -= zone(&mut rest)?;
    }
    rest.is_empty().then_some(total)
}

/// Parses `1999-9-10` or `1999-9-10 5:20:10.5`, with a year of four digits: Flink's default pattern.
pub(super) fn parse_plain(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, time) = text.split_once(' ').unwrap_or((text, ""));
    let is_complete = time.is_empty() || time.split(':').count() == 3;
    let has_zone = text.contains(['+', 'T', 'Z']) || time.contains('-');
    let has_year = date.find('-') == Some(4);
    parse_timestamp(text).filter(|_| is_complete && has_year && !has_zone)
}

/// Parses `2024-01-31`, `2024-01` or `2024` as days since the epoch. A time after a blank is ignored.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    let date = text.split_once(' ').map_or(text, |(date, _)| date);
    let mut parts = date.split('-').map(|part| unsigned(part.trim()));
    let year = parts.next()?.filter(|year| *year <= 9999)?;
    let month = u32::try_from(parts.next().unwrap_or(Some(1))?).ok()?;
    let day = u32::try_from(parts.next().unwrap_or(Some(1))?).ok()?;
    let fits = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day) && parts.next().is_none();
    fits.then(|| days(year, month, day))
}

/// Parses digits without a sign.
fn unsigned(text: &str) -> Option<i64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}
