//! Parsing by a pattern.

use super::super::super::civil::{DAY_US, HOUR_US, MINUTE_US, SECOND_US, days, days_in_month, iso_weekday};
use super::super::zone::OFFSET_MAX_US;
use super::{MONTHS, Pattern, Piece, QUARTERS, Style, WEEKDAYS, YEAR_MAX};

/// A text that was parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Parsed {
    /// Local time in microseconds since the epoch.
    pub local_us: i64,
    /// Offset from UTC in the text, in microseconds.
    pub offset_us: Option<i64>,
}

/// The fields of a text.
#[derive(Debug, Clone, Copy, Default)]
struct Fields {
    year: Option<i64>,
    quarter: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    weekday: Option<i64>,
    /// Hour of the day, 0 to 23.
    hour: Option<i64>,
    /// Hour of the half day, 0 to 11.
    half_day_hour: Option<i64>,
    is_afternoon: Option<bool>,
    minute: Option<i64>,
    second: Option<i64>,
    fraction_us: Option<i64>,
    offset_us: Option<i64>,
}

impl Pattern {
    /// Parses a text. Returns `None` if it does not match the pattern, or is no time.
    pub(in super::super) fn parse(&self, text: &str) -> Option<Parsed> {
        let mut rest = text;
        let mut fields = Fields::default();
        self.read(&self.pieces, &mut rest, &mut fields)?;
        let local_us = match self.style {
            Style::Formatter if rest.is_empty() => fields.strict()?,
            Style::Formatter => return None,
            Style::Simple => fields.lenient()?,
        };
        Some(Parsed {
            local_us,
            offset_us: fields.offset_us,
        })
    }

    fn read(&self, pieces: &[Piece], rest: &mut &str, fields: &mut Fields) -> Option<()> {
        for (index, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Literal(literal) => *rest = rest.strip_prefix(literal.as_str())?,
                Piece::Optional(inner) => {
                    let (mut rest_then, mut fields_then) = (*rest, *fields);
                    if self.read(inner, &mut rest_then, &mut fields_then).is_some() {
                        (*rest, *fields) = (rest_then, fields_then);
                    }
                }
                Piece::Field(letter, count) => {
                    self.read_field(*letter, *count, &pieces[index + 1..], rest, fields)?;
                }
            }
        }
        Some(())
    }

    fn read_field(
        &self,
        letter: char,
        count: usize,
        following: &[Piece],
        rest: &mut &str,
        fields: &mut Fields,
    ) -> Option<()> {
        match letter {
            'M' | 'L' if count >= 3 => {
                let month = self.name(rest, &MONTHS, count)? + 1;
                return set(&mut fields.month, month);
            }
            'E' => {
                let weekday = self.name(rest, &WEEKDAYS, count.max(3))? + 1;
                return set(&mut fields.weekday, weekday);
            }
            'a' => {
                let is_afternoon = match (rest.get(..2)?, self.style) {
                    ("AM", _) => false,
                    ("PM", _) => true,
                    (word, Style::Simple) if word.eq_ignore_ascii_case("AM") => false,
                    (word, Style::Simple) if word.eq_ignore_ascii_case("PM") => true,
                    _ => return None,
                };
                *rest = &rest[2..];
                return set(&mut fields.is_afternoon, is_afternoon);
            }
            'Q' | 'q' if count >= 3 => {
                let quarter = match count {
                    3 => {
                        *rest = rest.strip_prefix('Q')?;
                        number(rest, 1, 1)?
                    }
                    4 => self.name(rest, &QUARTERS, 4)? + 1,
                    _ => number(rest, 1, 1)?,
                };
                return set(&mut fields.quarter, quarter);
            }
            'X' | 'x' | 'Z' => {
                let offset = self.offset(letter, count, rest)?;
                return set(&mut fields.offset_us, offset);
            }
            'S' if self.style == Style::Formatter => {
                let value = number(rest, count, count)?;
                // Digits after microseconds are cut.
                let nanoseconds = value * 10_i64.pow(9 - count as u32);
                return set(&mut fields.fraction_us, nanoseconds / 1000);
            }
            _ => {}
        }
        let value = self.number(letter, count, following, rest)?;
        let field = match letter {
            'y' | 'u' if self.style == Style::Formatter || letter == 'y' => &mut fields.year,
            'u' => &mut fields.weekday,
            'Q' | 'q' => &mut fields.quarter,
            'M' | 'L' => &mut fields.month,
            'd' => &mut fields.day,
            'D' => &mut fields.day_of_year,
            'H' => &mut fields.hour,
            'k' | 'K' | 'h' => {
                let (range, modulus, field) = match letter {
                    'k' => (1..=24, 24, &mut fields.hour),
                    'K' => (0..=11, 12, &mut fields.half_day_hour),
                    _ => (1..=12, 12, &mut fields.half_day_hour),
                };
                if self.style == Style::Formatter && !range.contains(&value) {
                    return None;
                }
                // Number 24 or 12 of a clock is its 0.
                let is_last = letter != 'K' && value == modulus;
                return set(field, if is_last { 0 } else { value });
            }
            'm' => &mut fields.minute,
            's' => &mut fields.second,
            // Milliseconds, however many digits there are.
            'S' => return set(&mut fields.fraction_us, value.checked_mul(1000)?),
            _ => return None,
        };
        set(field, value)
    }

    /// Reads the number of a field.
    fn number(&self, letter: char, count: usize, following: &[Piece], rest: &mut &str) -> Option<i64> {
        const DIGITS_MAX: usize = 18;
        if self.style == Style::Simple {
            *rest = rest.trim_start_matches([' ', '\t']);
            let is_followed_by_digits =
                matches!(following.first(), Some(Piece::Field(next, count)) if is_number(*next, *count));
            let is_negative = !is_followed_by_digits && rest.starts_with('-');
            if is_negative {
                *rest = &rest[1..];
            }
            let most = if is_followed_by_digits { count } else { DIGITS_MAX };
            let before = rest.len();
            let value = number(rest, 1, most)?;
            let value = match letter {
                // Two digits are a year near the present one.
                'y' if count <= 2 && before - rest.len() == 2 && !is_negative => match value {
                    0..=45 => 2000 + value,
                    _ => 1900 + value,
                },
                _ => value,
            };
            return Some(if is_negative { -value } else { value });
        }
        let is_year = matches!(letter, 'y' | 'u');
        if is_year && count == 2 {
            return number(rest, 2, 2).map(|value| 2000 + value);
        }
        let (least, most) = match (letter, count) {
            ('y' | 'u', _) => (count, DIGITS_MAX),
            ('D', 2 | 3) => (count, 3),
            (_, 1) => (1, DIGITS_MAX),
            _ => (count, count),
        };
        // Digits of directly following fields of fixed width.
        let reserved: usize = following
            .iter()
            .map_while(|piece| match piece {
                Piece::Field('S', count) => Some(*count),
                Piece::Field(next, count @ 2..) if is_number(*next, *count) => Some(*count),
                Piece::Field(..) | Piece::Literal(_) | Piece::Optional(_) => None,
            })
            .sum();
        let sign = match (letter, rest.bytes().next()) {
            ('u', Some(b'-')) => -1,
            ('y' | 'u', Some(b'+')) if count >= 4 => 1,
            _ => 0,
        };
        if sign != 0 {
            *rest = &rest[1..];
        }
        let found = rest.bytes().take_while(u8::is_ascii_digit).count();
        let width = match most {
            DIGITS_MAX => found.saturating_sub(reserved).min(DIGITS_MAX),
            _ => found.min(most),
        };
        // A year with more digits than letters has a sign, and a positive one has a sign for that only.
        let is_padded = is_year && count >= 4;
        if width < least || (is_padded && (sign == 0) != (width == count) && sign != -1) {
            return None;
        }
        let value = number(rest, width, width)?;
        if letter == 'y' && value == 0 {
            return None;
        }
        Some(if sign == -1 { -value } else { value })
    }

    fn name(&self, rest: &mut &str, names: &[&str], count: usize) -> Option<i64> {
        for (index, name) in names.iter().enumerate() {
            let forms: &[&str] = match (self.style, count) {
                (Style::Formatter, 3) => &[&name[..3]],
                (Style::Formatter, 4) => &[name],
                // Several names have the same first letter.
                (Style::Formatter, _) => &[],
                (Style::Simple, _) => &[name, &name[..3]],
            };
            for form in forms {
                let is_found = rest.get(..form.len()).is_some_and(|found| match self.style {
                    Style::Formatter => found == *form,
                    Style::Simple => found.eq_ignore_ascii_case(form),
                });
                if is_found {
                    *rest = &rest[form.len()..];
                    return Some(index as i64);
                }
            }
        }
        None
    }

    /// Reads an offset (`Z`, `+02`, `+0200`, `+02:00`) as microseconds east of UTC.
    fn offset(&self, letter: char, count: usize, rest: &mut &str) -> Option<i64> {
        let takes_z = letter == 'X' || (letter, count, self.style) == ('Z', 5, Style::Formatter);
        if let Some(after) = rest.strip_prefix('Z').filter(|_| takes_z) {
            *rest = after;
            return Some(0);
        }
        if (letter, count) == ('Z', 4) || (letter == 'Z' && self.style == Style::Simple) {
            let after = rest.strip_prefix("GMT");
            if let Some(after) = after {
                *rest = after;
                if !after.starts_with(['+', '-']) {
                    return Some(0);
                }
            } else if self.style == Style::Formatter {
                return None;
            }
        }
        let sign = match rest.bytes().next()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        *rest = &rest[1..];
        let hours = number(rest, 2, 2)?;
        let (has_colon, needs_minutes) = match (letter, count, self.style) {
            ('X', 1, Style::Simple) => return (hours < 24).then_some(sign * hours * HOUR_US),
            ('X' | 'x', 1, _) => (false, false),
            ('X' | 'x', 3, _) | ('Z', 4 | 5, Style::Formatter) => (true, true),
            ('Z', _, Style::Simple) => (rest.starts_with(':'), true),
            _ => (false, true),
        };
        let starts_with_digit = rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        let mut minutes = 0;
        if needs_minutes || starts_with_digit {
            if has_colon {
                *rest = rest.strip_prefix(':')?;
            }
            minutes = number(rest, 2, 2)?;
        }
        let offset = hours * HOUR_US + minutes * MINUTE_US;
        (minutes < 60 && offset <= OFFSET_MAX_US).then_some(sign * offset)
    }
}

/// Returns true if a field is read as digits.
fn is_number(letter: char, count: usize) -> bool {
    match letter {
        'a' | 'E' | 'X' | 'x' | 'Z' => false,
        'M' | 'L' | 'Q' | 'q' => count <= 2,
        'S' => true,
        _ => true,
    }
}

/// Sets a field. Returns `None` if it has another value already.
fn set<T: Copy + PartialEq>(field: &mut Option<T>, value: T) -> Option<()> {
    (*field.get_or_insert(value) == value).then_some(())
}

fn number(rest: &mut &str, least: usize, most: usize) -> Option<i64> {
    let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if digits < least {
        return None;
    }
    let value = rest[..digits].parse().ok()?;
    *rest = &rest[digits..];
    Some(value)
}

impl Fields {
    /// Returns the time of fields that are all in their ranges and agree with one another. Missing ones are those of
    /// 1970-01-01 00:00:00.
    fn strict(&self) -> Option<i64> {
        let within =
            |field: Option<i64>, range: std::ops::RangeInclusive<i64>| field.is_none_or(|value| range.contains(&value));
        let is_sound = within(self.year, -YEAR_MAX..=YEAR_MAX)
            && within(self.quarter, 1..=4)
            && within(self.month, 1..=12)
            && within(self.day, 1..=31)
            && within(self.day_of_year, 1..=366)
            && within(self.hour, 0..=23)
            && within(self.half_day_hour, 0..=11)
            && within(self.minute, 0..=59)
            && within(self.second, 0..=59);
        if !is_sound {
            return None;
        }
        let year = self.year.unwrap_or(1970);
        let month = u32::try_from(self.month.unwrap_or(1)).ok()?;
        let day_of_month = u32::try_from(self.day.unwrap_or(1)).ok()?;
        if day_of_month > days_in_month(year, month) {
            return None;
        }
        let mut day = days(year, month, day_of_month);
        // A day of the year needs a year, like a weekday: otherwise it says nothing.
        if let (Some(of_year), Some(_)) = (self.day_of_year, self.year) {
            let found = days(year, 1, 1) + of_year - 1;
            let is_in_year = found < days(year + 1, 1, 1);
            let agrees = (self.month.is_none() && self.day.is_none()) || found == day;
            if !is_in_year || !agrees {
                return None;
            }
            day = found;
        }
        let is_date =
            self.year.is_some() && (self.day_of_year.is_some() || (self.month.is_some() && self.day.is_some()));
        if is_date && self.weekday.is_some_and(|weekday| weekday != iso_weekday(day)) {
            return None;
        }
        if self.month.is_some()
            && self
                .quarter
                .is_some_and(|quarter| quarter != (i64::from(month) - 1) / 3 + 1)
        {
            return None;
        }
        let of_half_day = self.half_day_hour.zip(self.is_afternoon);
        let of_half_day = of_half_day.map(|(hour, is_afternoon)| hour + if is_afternoon { 12 } else { 0 });
        let agrees = match (self.hour, of_half_day) {
            (Some(hour), Some(other)) => hour == other,
            (Some(hour), None) => {
                self.is_afternoon
                    .is_none_or(|is_afternoon| is_afternoon == (hour >= 12))
                    && self.half_day_hour.is_none_or(|half| half == hour % 12)
            }
            (None, _) => true,
        };
        if !agrees {
            return None;
        }
        // Without `a`, an hour of the half day is no hour of the day, so it is missing.
        let hour = self.hour.or(of_half_day).unwrap_or(0);
        self.total(day, hour)
    }

    /// Returns the time of fields that may be out of their ranges.
    fn lenient(&self) -> Option<i64> {
        let months = self.month.unwrap_or(1).checked_sub(1)?;
        let year = self.year.unwrap_or(1970).checked_add(months.div_euclid(12))?;
        if year.abs() > YEAR_MAX {
            return None;
        }
        let first = days(year, u32::try_from(months.rem_euclid(12)).ok()? + 1, 1);
        let day = match (self.day, self.day_of_year) {
            (None, Some(of_year)) => days(self.year.unwrap_or(1970), 1, 1).checked_add(of_year - 1)?,
            (day, _) => first.checked_add(day.unwrap_or(1) - 1)?,
        };
        let half_day = self.half_day_hour.unwrap_or(0) + if self.is_afternoon == Some(true) { 12 } else { 0 };
        self.total(day, self.hour.unwrap_or(half_day))
    }

    fn total(&self, day: i64, hour: i64) -> Option<i64> {
        let parts = [
            (day, DAY_US),
            (hour, HOUR_US),
            (self.minute.unwrap_or(0), MINUTE_US),
            (self.second.unwrap_or(0), SECOND_US),
            (self.fraction_us.unwrap_or(0), 1),
        ];
        parts.into_iter().try_fold(0_i64, |total, (number, unit)| {
            total.checked_add(number.checked_mul(unit)?)
        })
    }
}
