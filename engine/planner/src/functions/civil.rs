//! Civil dates, and date patterns with Java's letters (`yyyy-MM-dd HH:mm:ss`).
//!
//! The calendar is the proleptic Gregorian one ([`millstream_proto::civil`]).

use std::fmt::Write;

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

/// Writes a number with at least `width` digits; two and four digits, the common cases, without the formatting
/// machinery.
fn digits(number: i64, count: usize, out: &mut impl Write) -> std::fmt::Result {
    let digit = |value: i64| char::from(b'0' + (value % 10) as u8);
    match (count, number) {
        (2, 0..=99) => {
            out.write_char(digit(number / 10))?;
            out.write_char(digit(number))
        }
        (4, 0..=9999) => {
            for divisor in [1000, 100, 10, 1] {
                out.write_char(digit(number / divisor))?;
            }
            Ok(())
        }
        _ => write!(out, "{number:0count$}"),
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// A compiled date pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// A letter of Java's and its number of repetitions.
    Field(char, usize),
}

impl Pattern {
    /// Compiles a pattern. An error names the unknown letter.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut literal = String::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            if character == '\'' {
                if characters.peek() == Some(&'\'') {
                    characters.next();
                    literal.push('\'');
                    continue;
                }
                loop {
                    match characters.next() {
                        Some('\'') if characters.peek() == Some(&'\'') => {
                            characters.next();
                            literal.push('\'');
                        }
                        Some('\'') => break,
                        Some(other) => literal.push(other),
                        None => return Err(format!("the date pattern `{text}` has a quote that is not closed")),
                    }
                }
                continue;
            }
            if !character.is_ascii_alphabetic() {
                literal.push(character);
                continue;
            }
            let mut count = 1;
            while characters.peek() == Some(&character) {
                characters.next();
                count += 1;
            }
            if !matches!(
                character,
                'y' | 'u' | 'M' | 'L' | 'd' | 'D' | 'H' | 'h' | 'm' | 's' | 'S' | 'a' | 'E' | 'Q' | 'w' | 'X' | 'Z'
            ) {
                return Err(format!(
                    "`{character}` in the date pattern `{text}` is not known; put letters that stand for themselves \
                     between quotes"
                ));
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Field(if character == 'u' { 'y' } else { character }, count));
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self(pieces))
    }

    /// Formats a time in microseconds since the epoch.
    pub(super) fn format(&self, micros: i64, out: &mut impl Write) -> std::fmt::Result {
        let day = micros.div_euclid(DAY_US);
        let time = micros.rem_euclid(DAY_US);
        let (year, month, day_of_month) = civil(day);
        for piece in &self.0 {
            let (letter, count) = match piece {
                Piece::Literal(text) => {
                    out.write_str(text)?;
                    continue;
                }
                Piece::Field(letter, count) => (*letter, *count),
            };
            let number = match letter {
                'y' if count == 2 => year.rem_euclid(100),
                'y' => year,
                'M' | 'L' if count >= 3 => {
                    let name = MONTHS[month as usize - 1];
                    out.write_str(if count == 3 { &name[..3] } else { name })?;
                    continue;
                }
                'M' | 'L' => i64::from(month),
                'd' => i64::from(day_of_month),
                'D' => day - days(year, 1, 1) + 1,
                'H' => time / HOUR_US,
                'h' => (time / HOUR_US + 11) % 12 + 1,
                'm' => time / MINUTE_US % 60,
                's' => time / SECOND_US % 60,
                'S' => {
                    let fraction = time % SECOND_US * 1000;
                    let digits = count.min(9);
                    write!(out, "{:0digits$}", fraction / 10_i64.pow(9 - digits as u32))?;
                    continue;
                }
                'a' => {
                    out.write_str(if time < DAY_US / 2 { "AM" } else { "PM" })?;
                    continue;
                }
                'E' => {
                    let name = WEEKDAYS[iso_weekday(day) as usize - 1];
                    out.write_str(if count <= 3 { &name[..3] } else { name })?;
                    continue;
                }
                'Q' => i64::from((month - 1) / 3 + 1),
                'w' => iso_week(day).1,
                'X' => {
                    out.write_char('Z')?;
                    continue;
                }
                _ => {
                    out.write_str("+0000")?;
                    continue;
                }
            };
            digits(number, count, out)?;
        }
        Ok(())
    }

    /// Parses a text into microseconds since the epoch. Returns `None` if it does not match the pattern.
    pub(super) fn parse(&self, text: &str) -> Option<i64> {
        let mut rest = text;
        let (mut year, mut month, mut day, mut day_of_year) = (1970, 1, 1, None);
        let (mut hour, mut minute, mut second, mut micros, mut afternoon) = (0, 0, 0, 0, None);
        let mut offset = 0;
        for (index, piece) in self.0.iter().enumerate() {
            let (letter, count) = match piece {
                Piece::Literal(literal) => {
                    rest = rest.strip_prefix(literal.as_str())?;
                    continue;
                }
                Piece::Field(letter, count) => (*letter, *count),
            };
            // A number that is directly followed by another has exactly as many digits as letters.
            let touches =
                matches!(self.0.get(index + 1), Some(Piece::Field(next, _)) if !matches!(next, 'a' | 'E' | 'X' | 'Z'));
            match letter {
                'M' | 'L' if count >= 3 => month = name(&mut rest, &MONTHS, count)? as u32 + 1,
                'E' => {
                    name(&mut rest, &WEEKDAYS, count)?;
                }
                'a' => {
                    let word = rest.get(..2)?;
                    afternoon = Some(word.eq_ignore_ascii_case("PM"));
                    if afternoon == Some(false) && !word.eq_ignore_ascii_case("AM") {
                        return None;
                    }
                    rest = &rest[2..];
                }
                'S' => {
                    let digits: &str = &rest[..rest
                        .bytes()
                        .take(count.max(if touches { 0 } else { 9 }))
                        .take_while(u8::is_ascii_digit)
                        .count()];
                    if digits.is_empty() {
                        return None;
                    }
                    rest = &rest[digits.len()..];
                    micros = format!("{digits:0<6}").get(..6)?.parse().ok()?;
                }
                'X' | 'Z' => offset = zone(&mut rest)?,
                _ => {
                    let most = if touches {
                        count
                    } else {
                        if letter == 'y' { 9 } else { count.max(2) }
                    };
                    let value = number(&mut rest, most)?;
                    match letter {
                        'y' if count == 2 => year = 2000 + value,
                        'y' => year = value,
                        'M' | 'L' => month = u32::try_from(value).ok()?,
                        'd' => day = u32::try_from(value).ok()?,
                        'D' => day_of_year = Some(value),
                        'H' => hour = value,
                        'h' => hour = value % 12,
                        'm' => minute = value,
                        's' => second = value,
                        _ => return None,
                    }
                }
            }
        }
        if afternoon == Some(true) {
            hour += 12;
        }
        let fits = rest.is_empty()
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60
            && year.abs() < 200_000;
        if !fits {
            return None;
        }
        let date = match day_of_year {
            Some(of_year) => days(year, 1, 1) + of_year - 1,
            None => days(year, month, day),
        };
        let time = hour * HOUR_US + minute * MINUTE_US + second * SECOND_US + micros;
        Some(date * DAY_US + time - offset)
    }
}

fn number(rest: &mut &str, most: usize) -> Option<i64> {
    let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let value = rest[..digits].parse().ok()?;
    *rest = &rest[digits..];
    Some(value)
}

fn name(rest: &mut &str, names: &[&str], count: usize) -> Option<usize> {
    for (index, name) in names.iter().enumerate() {
        let wanted = if count <= 3 { &name[..3] } else { name };
        if rest
            .get(..wanted.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(wanted))
        {
            *rest = &rest[wanted.len()..];
            return Some(index);
        }
    }
    None
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
    let hours = number(rest, 2)?;
    *rest = rest.strip_prefix(':').unwrap_or(rest);
    let minutes = if rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) {
        number(rest, 2)?
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
    let mut parts = digits.split('-');
    let year: i64 = parts.next()?.parse().ok().filter(|year| *year < 200_000)?;
    let year = if negative { -year } else { year };
    let month: u32 = parts.next()?.parse().ok()?;
    let day: u32 = parts.next()?.parse().ok()?;
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
