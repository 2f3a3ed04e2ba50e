//! Dates, times and timestamps as text.
//!
//! Parsed: `2024-01-01`, `2024-01-01 10:20`, `2024-01-01 10:20:30.123456`, with `T` instead of the space and with `Z`
//! or an offset at the end; years 1 to 9999; fractions beyond the microsecond are truncated. Written as in Flink:
//! always with seconds, and with as few digits of the fraction as needed. The calendar is the proleptic Gregorian one
//! ([`millstream_proto::civil`]).

mod parse;
mod write;

pub use parse::parse_timestamp;
pub(super) use parse::{LastDate, parse_date, parse_time};
pub(super) use write::{write_date, write_time, write_timestamp};

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
    fn quoted_timestamps_are_read_as_without_quotes() {
        let mut last = LastDate::default();
        for text in [
            "1970-01-01 00:00:00",
            "1970-01-01T23:59:59Z",
            "2024-02-29 12:30:01.5",
            "2024-02-29 12:30:01.123456",
            "0001-01-01 00:00:00.001Z",
            "9999-12-31 23:59:59.999999",
        ] {
            let quoted = [text.as_bytes(), b"\", "].concat();
            let expected = parse_timestamp(text.as_bytes()).map(|us| (us, text.len()));
            assert_eq!(last.timestamp(&quoted), expected, "{text}");
            assert_eq!(last.timestamp(text.as_bytes()), None, "{text}");
        }
        for text in [
            "",
            "2024-01-01",
            "2024-01-01 12:30",
            "2024-01-01 12:30:60",
            "2024-01-01 24:00:00",
            "2024-01-01 12:30:00.",
            "2024-01-01 12:30:00.1234567",
            "2024-01-01 12:30:00+02:00",
            "2024-01-01 12:30:00 ",
            "2023-02-29 12:30:00",
            "2023-02-29 12:30:00",
            "0000-00-00 12:30:00",
            " 2024-01-01 12:30:00",
        ] {
            assert_eq!(last.timestamp(&[text.as_bytes(), b"\""].concat()), None, "{text}");
        }
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
