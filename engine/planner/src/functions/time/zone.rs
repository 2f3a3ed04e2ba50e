//! Time zones: names, offsets at an instant, and conversion between instants and local times.
//!
//! Zones are those of the IANA database under their full names (`Europe/Berlin`), and fixed offsets (`GMT+05:30`).

use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;

use super::super::civil::{DAY_US, HOUR_US, MINUTE_US, SECOND_US};

/// Greatest offset from UTC, as in Java.
pub(in crate::functions) const OFFSET_MAX_US: i64 = 18 * HOUR_US;
/// Offsets are looked up once per span of this length, unless the span contains a transition.
const SPAN_US: i64 = 15 * MINUTE_US;

/// A time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    /// A fixed offset: microseconds east of UTC.
    Fixed(i64),
    /// A zone of the IANA database.
    Named(Tz),
}

/// The choice between the two instants of a local time that occurs twice, when clocks are set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeated {
    /// As in `java.time`: the first one.
    First,
    /// As in `java.util.Calendar`: the second one.
    Second,
}

impl Zone {
    pub(crate) const UTC: Self = Self::Fixed(0);

    /// Reads the name of a zone. An error says which names there are.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let without_prefix = ["GMT", "UTC", "UT"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name);
        if (without_prefix.is_empty() && !name.is_empty()) || name == "Z" {
            return Ok(Self::UTC);
        }
        if let Some(offset) = fixed_offset(without_prefix) {
            return Ok(Self::Fixed(offset));
        }
        match Tz::from_str(name) {
            Ok(Tz::UTC | Tz::Etc__UTC | Tz::Etc__GMT | Tz::GMT) => Ok(Self::UTC),
            Ok(zone) => Ok(Self::Named(zone)),
            Err(_) => Err(format!(
                "`{name}` is not a time zone: write the full name of one, such as 'Europe/Berlin', or an offset, such as \
                 'GMT+05:30'"
            )),
        }
    }

    /// Reads the name of a zone as [`Zone::new`] does, or one of the abbreviations of `java.util.TimeZone`.
    pub(super) fn of_java(name: &str) -> Result<Self, String> {
        match ABBREVIATIONS.iter().find(|(short, _)| *short == name) {
            Some((_, zone)) => Ok(Self::Named(*zone)),
            None => Self::new(name),
        }
    }

    /// Returns the offset at an instant, in microseconds east of UTC.
    pub(crate) fn offset_at(&self, instant_us: i64) -> i64 {
        match self {
            Self::Fixed(offset) => *offset,
            Self::Named(zone) => utc(instant_us).map_or(0, |utc| {
                let offset = zone.offset_from_utc_datetime(&utc);
                i64::from(offset.fix().local_minus_utc()) * SECOND_US
            }),
        }
    }

    /// Returns the instant of a local time. One that is skipped when clocks are set forward is read with the offset
    /// before that.
    pub(super) fn instant_of(&self, local_us: i64, repeated: Repeated) -> i64 {
        let zone = match self {
            Self::Fixed(offset) => return local_us.saturating_sub(*offset),
            Self::Named(zone) => zone,
        };
        let Some(local) = utc(local_us) else { return local_us };
        let offset = match zone.offset_from_local_datetime(&local) {
            chrono::MappedLocalTime::Single(offset) => Some(offset),
            chrono::MappedLocalTime::Ambiguous(first, second) => Some(match repeated {
                Repeated::First => first,
                Repeated::Second => second,
            }),
            chrono::MappedLocalTime::None => {
                let before = local.checked_sub_signed(TimeDelta::days(1));
                before.and_then(|before| zone.offset_from_local_datetime(&before).latest())
            }
        };
        local_us.saturating_sub(offset.map_or(0, |offset| i64::from(offset.fix().local_minus_utc()) * SECOND_US))
    }

    /// Returns true if all offsets of the zone, now and in the next years, differ by multiples of a length.
    pub(crate) fn keeps_multiples_of(&self, length_us: i64) -> bool {
        let Self::Named(_) = self else { return true };
        // From 2000 to 2037, twice a month.
        let first = self.offset_at(OFFSETS_FROM_US);
        (0..OFFSETS_HALF_MONTHS)
            .map(|step| self.offset_at(OFFSETS_FROM_US + step * 15 * DAY_US))
            .all(|offset| (offset - first) % length_us == 0)
    }
}

/// Abbreviations of `java.util.TimeZone` that the IANA database does not have, or that mean a zone without summer time
/// there.
const ABBREVIATIONS: &[(&str, Tz)] = &[
    ("ACT", Tz::Australia__Darwin),
    ("AET", Tz::Australia__Sydney),
    ("AGT", Tz::America__Argentina__Buenos_Aires),
    ("ART", Tz::Africa__Cairo),
    ("AST", Tz::America__Anchorage),
    ("BET", Tz::America__Sao_Paulo),
    ("BST", Tz::Asia__Dhaka),
    ("CAT", Tz::Africa__Harare),
    ("CNT", Tz::America__St_Johns),
    ("CST", Tz::America__Chicago),
    ("CTT", Tz::Asia__Shanghai),
    ("EAT", Tz::Africa__Addis_Ababa),
    ("ECT", Tz::Europe__Paris),
    ("IET", Tz::America__Indiana__Indianapolis),
    ("IST", Tz::Asia__Kolkata),
    ("JST", Tz::Asia__Tokyo),
    ("MIT", Tz::Pacific__Apia),
    ("NET", Tz::Asia__Yerevan),
    ("NST", Tz::Pacific__Auckland),
    ("PLT", Tz::Asia__Karachi),
    ("PNT", Tz::America__Phoenix),
    ("PRT", Tz::America__Puerto_Rico),
    ("PST", Tz::America__Los_Angeles),
    ("SST", Tz::Pacific__Guadalcanal),
    ("VST", Tz::Asia__Ho_Chi_Minh),
];

/// The year 2000.
const OFFSETS_FROM_US: i64 = 946_684_800 * SECOND_US;
const OFFSETS_HALF_MONTHS: i64 = 37 * 25;

fn utc(instant_us: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(instant_us).map(|utc| utc.naive_utc())
}

/// Reads `+5`, `+05`, `+0530`, `+05:30` or `+05:30:00` as microseconds.
fn fixed_offset(text: &str) -> Option<i64> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let parts: Vec<&str> = match rest.len() {
        4 if !rest.contains(':') && rest.is_ascii() => vec![&rest[..2], &rest[2..]],
        _ => rest.split(':').collect(),
    };
    let mut total = 0;
    for (index, (part, unit)) in parts.iter().zip([HOUR_US, MINUTE_US, SECOND_US]).enumerate() {
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        let is_complete = part.len() == 2 || (index == 0 && part.len() == 1);
        let number: i64 = part.parse().ok().filter(|_| is_number && is_complete)?;
        if index > 0 && number > 59 {
            return None;
        }
        total += number * unit;
    }
    (parts.len() <= 3 && total <= OFFSET_MAX_US).then_some(sign * total)
}

/// Conversions in one zone, with the offset of the last one. Times of neighbouring rows are mostly close to each other.
pub(super) struct Conversion<'z> {
    zone: &'z Zone,
    instants: Span,
    locals: Span,
}

/// A span of time with the same offset.
#[derive(Default)]
struct Span {
    from: i64,
    to: i64,
    offset: i64,
}

impl<'z> Conversion<'z> {
    pub(super) fn new(zone: &'z Zone) -> Self {
        Self {
            zone,
            instants: Span::default(),
            locals: Span::default(),
        }
    }

    fn offset_at(&mut self, instant_us: i64) -> i64 {
        self.instants.offset(instant_us, |instant| self.zone.offset_at(instant))
    }

    /// Returns the local time of an instant.
    pub(super) fn local(&mut self, instant_us: i64) -> i64 {
        instant_us.saturating_add(self.offset_at(instant_us))
    }

    /// Returns the instant of a local time, as `java.time` does.
    pub(super) fn instant(&mut self, local_us: i64) -> i64 {
        let zone = self.zone;
        let offset = self.locals.offset(local_us, |local| {
            local.saturating_sub(zone.instant_of(local, Repeated::First))
        });
        local_us.saturating_sub(offset)
    }

    /// Returns the least local time of an instant and all later ones. It is before the local time of the instant if
    /// clocks are set back soon.
    pub(super) fn least_local_from(&mut self, instant_us: i64) -> i64 {
        let offset = self.offset_at(instant_us);
        let local = instant_us.saturating_add(offset);
        let horizon = instant_us.saturating_add(SET_BACK_MAX_US);
        if self.zone.offset_at(horizon) >= offset {
            return local;
        }
        // The first instant of the new offset, to the second.
        let (mut before, mut after) = (instant_us, horizon);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if self.zone.offset_at(middle) < offset {
                after = middle;
            } else {
                before = middle;
            }
        }
        local.min(after.saturating_add(self.zone.offset_at(after)))
    }
}

/// Greatest step by which clocks are set back: a horizon in which transitions are looked for.
const SET_BACK_MAX_US: i64 = 3 * HOUR_US;

impl Span {
    fn offset(&mut self, time_us: i64, of: impl Fn(i64) -> i64) -> i64 {
        if (self.from..self.to).contains(&time_us) {
            return self.offset;
        }
        let offset = of(time_us);
        let from = time_us.saturating_sub(time_us.rem_euclid(SPAN_US));
        let to = from.saturating_add(SPAN_US);
        if of(from) == offset && of(to) == offset {
            *self = Self { from, to, offset };
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::civil::parse_timestamp;
    use super::*;

    fn us(text: &str) -> i64 {
        parse_timestamp(text).expect("a time")
    }

    #[test]
    fn names() {
        for (name, expected) in [
            ("UTC", Ok(Zone::UTC)),
            ("GMT", Ok(Zone::UTC)),
            ("Z", Ok(Zone::UTC)),
            ("Etc/UTC", Ok(Zone::UTC)),
            ("GMT+05:30", Ok(Zone::Fixed(5 * HOUR_US + 30 * MINUTE_US))),
            ("GMT-8", Ok(Zone::Fixed(-8 * HOUR_US))),
            ("UTC+08:00", Ok(Zone::Fixed(8 * HOUR_US))),
            ("+0130", Ok(Zone::Fixed(HOUR_US + 30 * MINUTE_US))),
            ("Asia/Shanghai", Ok(Zone::Named(Tz::Asia__Shanghai))),
            ("GMT+19", Err(())),
            ("GMT+1:5", Err(())),
            ("GMT+05:60", Err(())),
            ("GMT+", Err(())),
            ("", Err(())),
            ("Europe/Nowhere", Err(())),
        ] {
            assert_eq!(Zone::new(name).map_err(drop), expected, "{name}");
        }
    }

    #[test]
    fn local_times_and_instants() {
        let zone = Zone::new("Europe/Berlin").expect("a zone");
        let mut conversion = Conversion::new(&zone);
        for (instant, local) in [
            ("2024-01-01 00:00", "2024-01-01 01:00"),
            ("2024-03-31 00:59:59", "2024-03-31 01:59:59"),
            ("2024-03-31 01:00", "2024-03-31 03:00"),
            ("2024-10-27 00:30", "2024-10-27 02:30"),
            ("2024-10-27 01:30", "2024-10-27 02:30"),
            ("2024-10-27 02:00", "2024-10-27 03:00"),
        ] {
            assert_eq!(conversion.local(us(instant)), us(local), "{instant}");
        }
        for (local, first, second) in [
            ("2024-07-01 12:00", "2024-07-01 10:00", "2024-07-01 10:00"),
            // Skipped.
            ("2024-03-31 02:30", "2024-03-31 01:30", "2024-03-31 01:30"),
            // Repeated.
            ("2024-10-27 02:30", "2024-10-27 00:30", "2024-10-27 01:30"),
        ] {
            assert_eq!(conversion.instant(us(local)), us(first), "{local}");
            assert_eq!(zone.instant_of(us(local), Repeated::First), us(first), "{local}");
            assert_eq!(zone.instant_of(us(local), Repeated::Second), us(second), "{local}");
        }
    }

    #[test]
    fn the_least_local_time_never_goes_back() {
        let zone = Zone::new("Europe/Berlin").expect("a zone");
        let mut conversion = Conversion::new(&zone);
        for (instant, local) in [
            ("2024-10-26 23:30", "2024-10-27 01:30"),
            ("2024-10-27 00:30", "2024-10-27 02:00"),
            ("2024-10-27 00:59:59.999999", "2024-10-27 02:00"),
            ("2024-10-27 01:00", "2024-10-27 02:00"),
            ("2024-10-27 01:30", "2024-10-27 02:30"),
            ("2024-03-31 00:59:59", "2024-03-31 01:59:59"),
            ("2024-03-31 01:00", "2024-03-31 03:00"),
        ] {
            assert_eq!(conversion.least_local_from(us(instant)), us(local), "{instant}");
        }
        let mut last = i64::MIN;
        let mut instant = us("2024-10-26 20:00");
        while instant < us("2024-10-27 05:00") {
            let local = conversion.least_local_from(instant);
            assert!(last <= local);
            last = local;
            instant += 7 * MINUTE_US;
        }
    }

    #[test]
    fn offsets_that_keep_the_windows_of_an_hour() {
        let keeps = |name: &str, length| Zone::new(name).expect("a zone").keeps_multiples_of(length);
        assert!(keeps("Europe/Berlin", HOUR_US));
        assert!(!keeps("Europe/Berlin", DAY_US));
        assert!(keeps("Asia/Shanghai", DAY_US));
        assert!(!keeps("Australia/Lord_Howe", HOUR_US));
    }
}
