//! Durations in text form: `10s`, `500 ms`, `1 min`, `2h`, `1d`, `1 min 30 s`, `PT1M30S`.

use std::time::Duration;

/// Names of each unit, and its nanoseconds.
const UNITS: &[(&[&str], u64)] = &[
    (&["ns", "nano", "nanos", "nanosecond", "nanoseconds"], 1),
    (&["us", "µs", "micro", "micros", "microsecond", "microseconds"], 1_000),
    (
        &["ms", "milli", "millis", "millisecond", "milliseconds"],
        MILLISECOND_NS,
    ),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000_000_000),
    (&["h", "hour", "hours"], 3_600_000_000_000),
    (&["d", "day", "days"], 86_400_000_000_000),
];

const MILLISECOND_NS: u64 = 1_000_000;

/// Parses a duration of at most 584 years. The error names the remedy. A number without a unit is an error, except for
/// 0.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, None)
}

/// Parses a duration by Flink's rule, for options and settings of SQL: a number without a unit is milliseconds.
pub fn parse_flink_duration(text: &str) -> Result<Duration, String> {
    parse(text, Some(MILLISECOND_NS))
}

/// Parses a duration of whole milliseconds, by the rules of [`parse_duration`].
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let duration = parse_duration(text)?;
    if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(format!("`{text}` is not a whole number of milliseconds"));
    }
    u64::try_from(duration.as_millis()).map_err(|_| too_long(text))
}

/// Parses a duration. `bare_ns` is the unit of a number without one, in nanoseconds; `None` makes that an error.
fn parse(text: &str, bare_ns: Option<u64>) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration; write a number and a unit, such as `10s`, `500ms`, `1min`, `2h`");
    let lower = text.trim().to_lowercase();
    let iso = lower.strip_prefix("pt");
    let mut rest = iso.unwrap_or(&lower).trim_start();
    let mut total_ns: u64 = 0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit_ns = match &rest[..letters] {
            "" if iso.is_some() => return Err(wrong()),
            "" if number == 0 => 1,
            "" => bare_ns.ok_or_else(wrong)?,
            unit => {
                UNITS
                    .iter()
                    .find(|(names, _)| names.contains(&unit))
                    .ok_or_else(wrong)?
                    .1
            }
        };
        let part_ns = number.checked_mul(unit_ns);
        total_ns = part_ns
            .and_then(|part_ns| total_ns.checked_add(part_ns))
            .ok_or_else(|| too_long(text))?;
        rest = rest[letters..].trim_start();
        if rest.is_empty() {
            return Ok(Duration::from_nanos(total_ns));
        }
    }
}

fn too_long(text: &str) -> String {
    format!("`{text}` is longer than a duration can be, which is 584 years")
}

/// Formats a duration in the largest unit in which it is a whole number.
pub fn format_duration_ms(ms: u64) -> String {
    if ms == 0 {
        return "0s".to_string();
    }
    for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)] {
        if ms >= factor && ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_spelling() {
        for (text, expected_us) in [
            ("0", 0),
            ("0 s", 0),
            ("10 s", 10_000_000),
            ("500ms", 500_000),
            ("20 us", 20),
            ("20 µs", 20),
            ("1 min", 60_000_000),
            ("2mins", 120_000_000),
            ("1 min 30 s", 90_000_000),
            ("1min30s", 90_000_000),
            ("PT1M30S", 90_000_000),
            (" 2 Hours ", 7_200_000_000),
            ("1d", 86_400_000_000),
        ] {
            let expected = Ok(Duration::from_micros(expected_us));
            assert_eq!(parse_duration(text), expected, "{text}");
            assert_eq!(parse_flink_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_milliseconds_in_sql_and_an_error_elsewhere() {
        assert_eq!(parse_flink_duration("250"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("250").unwrap_err().contains("a number and a unit"));
        assert!(parse_duration_ms("250").unwrap_err().contains("a number and a unit"));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "s",
            "PT",
            "PT5",
            "ten s",
            "10 parsecs",
            "-1 s",
            "1.5 s",
            "1 min x",
            "99999999999999999999 s",
        ] {
            let error = parse_flink_duration(text).unwrap_err();
            assert!(error.contains("is not a duration"), "{text}: {error}");
        }
        for text in ["18446744073709551615 d", "18446744073709551615 ns 1 ns"] {
            let error = parse_flink_duration(text).unwrap_err();
            assert!(error.contains("584 years"), "{text}: {error}");
        }
        assert_eq!(
            parse_duration_ms("1500us"),
            Err("`1500us` is not a whole number of milliseconds".into())
        );
    }

    #[test]
    fn written_durations_read_back() {
        for ms in [
            0, 1, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000, 86_400_000, 86_400_001,
        ] {
            assert_eq!(parse_duration_ms(&format_duration_ms(ms)), Ok(ms));
        }
    }
}
