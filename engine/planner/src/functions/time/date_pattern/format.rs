//! Formatting by a pattern.

use std::fmt::Write;

use super::super::super::civil::{DAY_US, HOUR_US, MINUTE_US, SECOND_US, civil, days, iso_week, iso_weekday};
use super::{HALF_DAY_US, MONTHS, Pattern, Piece, QUARTERS, Style, WEEKDAYS};

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

/// A time that is being formatted.
struct Moment {
    day: i64,
    /// Microseconds of the day.
    time: i64,
    year: i64,
    month: u32,
    day_of_month: u32,
    offset: i64,
}

impl Pattern {
    /// Formats a local time in microseconds since the epoch, with this offset from UTC.
    pub(in super::super) fn format(&self, local_us: i64, offset_us: i64, out: &mut impl Write) -> std::fmt::Result {
        let day = local_us.div_euclid(DAY_US);
        let (year, month, day_of_month) = civil(day);
        let moment = Moment {
            day,
            time: local_us.rem_euclid(DAY_US),
            year,
            month,
            day_of_month,
            offset: offset_us,
        };
        self.write(&self.pieces, &moment, out)
    }

    fn write(&self, pieces: &[Piece], moment: &Moment, out: &mut impl Write) -> std::fmt::Result {
        for piece in pieces {
            match piece {
                Piece::Literal(text) => out.write_str(text)?,
                Piece::Optional(inner) => self.write(inner, moment, out)?,
                Piece::Field(letter, count) => self.write_field(*letter, *count, moment, out)?,
            }
        }
        Ok(())
    }

    fn write_field(&self, letter: char, count: usize, moment: &Moment, out: &mut impl Write) -> std::fmt::Result {
        let Moment {
            day, time, year, month, ..
        } = *moment;
        let number = match letter {
            'y' | 'u' if self.style == Style::Formatter || letter == 'y' => {
                return match count {
                    2 => digits(year.rem_euclid(100), 2, out),
                    4.. if year > 9999 && self.style == Style::Formatter => write!(out, "+{year}"),
                    _ => digits(year, count, out),
                };
            }
            // The number of the weekday.
            'u' => iso_weekday(day),
            'M' | 'L' if count >= 3 => return self.write_name(MONTHS[month as usize - 1], count, out),
            'M' | 'L' => i64::from(month),
            'd' => i64::from(moment.day_of_month),
            'D' => day - days(year, 1, 1) + 1,
            'H' => time / HOUR_US,
            'k' => (time / HOUR_US + 23) % 24 + 1,
            'K' => time / HOUR_US % 12,
            'h' => (time / HOUR_US + 11) % 12 + 1,
            'm' => time / MINUTE_US % 60,
            's' => time / SECOND_US % 60,
            'S' => match self.style {
                Style::Formatter => time % SECOND_US * 1000 / 10_i64.pow(9 - count.min(9) as u32),
                Style::Simple => time % SECOND_US / 1000,
            },
            'a' => return out.write_str(if time < HALF_DAY_US { "AM" } else { "PM" }),
            'E' => return self.write_name(WEEKDAYS[iso_weekday(day) as usize - 1], count.max(3), out),
            'Q' | 'q' => {
                let quarter = (month as usize - 1) / 3;
                match count {
                    3 => return write!(out, "Q{}", quarter + 1),
                    4 => return out.write_str(QUARTERS[quarter]),
                    5 => return write!(out, "{}", quarter + 1),
                    _ => quarter as i64 + 1,
                }
            }
            'w' => iso_week(day).1,
            _ => return self.write_offset(letter, count, moment.offset, out),
        };
        digits(number, count, out)
    }

    /// Writes a name in short, in full, or as its first letter.
    fn write_name(&self, name: &str, count: usize, out: &mut impl Write) -> std::fmt::Result {
        out.write_str(match (count, self.style) {
            (3, _) => &name[..3],
            (5, Style::Formatter) => &name[..1],
            _ => name,
        })
    }

    fn write_offset(&self, letter: char, count: usize, offset: i64, out: &mut impl Write) -> std::fmt::Result {
        let is_z = offset == 0 && (letter == 'X' || (letter == 'Z' && count == 5));
        if is_z {
            return out.write_char('Z');
        }
        let (sign, size) = (if offset < 0 { '-' } else { '+' }, offset.abs());
        let (hours, minutes) = (size / HOUR_US, size / MINUTE_US % 60);
        if (letter, count, self.style) == ('Z', 4, Style::Formatter) {
            return match offset {
                0 => out.write_str("GMT"),
                _ => write!(out, "GMT{sign}{hours:02}:{minutes:02}"),
            };
        }
        write!(out, "{sign}{hours:02}")?;
        let has_colon = matches!((letter, count), ('X' | 'x', 3)) || (letter == 'Z' && count == 5);
        match (letter, count) {
            ('X', 1) if self.style == Style::Simple || minutes == 0 => Ok(()),
            ('x', 1) if minutes == 0 => Ok(()),
            _ if has_colon => write!(out, ":{minutes:02}"),
            _ => write!(out, "{minutes:02}"),
        }
    }
}
