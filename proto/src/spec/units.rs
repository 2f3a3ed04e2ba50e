//! Durations as people write them: `10s`, `500 ms`, `1 min`, `2h`, `1d`.

const UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("millis", 1),
    ("millisecond", 1),
    ("milliseconds", 1),
    ("s", 1000),
    ("sec", 1000),
    ("second", 1000),
    ("seconds", 1000),
    ("m", 60_000),
    ("min", 60_000),
    ("minute", 60_000),
    ("minutes", 60_000),
    ("h", 3_600_000),
    ("hour", 3_600_000),
    ("hours", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("days", 86_400_000),
];

/// Reads a duration; the error says what would be right.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("`{text}` is not a duration; write a number and a unit, such as `10s`, `500ms`, `1min`, `2h`");
    let trimmed = text.trim();
    let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = trimmed[..digits].parse().map_err(|_| wrong())?;
    let unit = trimmed[digits..].trim().to_ascii_lowercase();
    if unit.is_empty() && number == 0 {
        return Ok(0);
    }
    let factor = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("`{text}` is longer than a duration can be"))
}

/// Writes a duration in the largest unit that keeps it whole.
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
