//! Text for people: mistakes as `error: FILE:LINE:COLUMN: mistake; remedy` with the line and a caret, and the formats
//! of numbers, sizes and times. The caller decides about colours.

use std::fmt::Write;

use crate::v1::Mistake;

/// Longest line that is shown under an error, in characters.
const LINE_CHARS_MAX: usize = 160;

/// Formats all mistakes of a file. `text` is the content of the file.
pub fn render(file: &str, text: &str, mistakes: &[Mistake], color: bool) -> String {
    let (red, bold, plain) = if color {
        ("\x1b[31;1m", "\x1b[1m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    for mistake in mistakes {
        let (line, column) = (mistake.line, mistake.column);
        let place = match line {
            0 => file.to_string(),
            _ => format!("{file}:{line}:{column}"),
        };
        let path = match mistake.path.as_str() {
            "" => String::new(),
            path => format!("{path}: "),
        };
        writeln!(
            out,
            "{red}error{plain}: {bold}{place}{plain}: {path}{}",
            mistake.message
        )
        .expect("writing to a String cannot fail");
        if let Some(source) = (line as usize).checked_sub(1).and_then(|line| lines.get(line))
            && source.chars().count() <= LINE_CHARS_MAX
            && !source.trim().is_empty()
        {
            let indent: String = source
                .chars()
                .take(column.saturating_sub(1) as usize)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            writeln!(out, "{line:>5} | {source}\n      | {indent}{red}^{plain}")
                .expect("writing to a String cannot fail");
        }
    }
    out
}

/// Formats `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats the first `shown_max` items and the number of the others: `a, b and 3 more`.
pub fn listed(items: impl IntoIterator<Item = String>, shown_max: usize) -> String {
    let mut items = items.into_iter();
    let shown: Vec<String> = items.by_ref().take(shown_max).collect();
    match items.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Formats a number of bytes with a unit: `10.0 MB`.
pub fn amount(bytes: u64) -> String {
    let mut number = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if number < 1000.0 {
            break;
        }
        number /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{number:.1} {unit}")
    }
}

/// Formats microseconds since 1970 as `2026-01-31 12:00:00`, UTC; `i64::MAX`, the last watermark, as `end`.
pub fn time(us: i64) -> String {
    if us == i64::MAX {
        return "end".to_string();
    }
    let seconds = us.div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = crate::civil::civil_from_days(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Formats microseconds since 1970 as in RFC 3339, `2026-01-31T12:00:00.000000Z`; `None` outside of the years 0 to
/// 9999, which RFC 3339 does not cover (such as the last watermark, `i64::MAX`).
pub fn rfc3339(us: i64) -> Option<String> {
    const FIRST: i64 = -62_167_219_200_000_000;
    const END: i64 = 253_402_300_800_000_000;
    (FIRST..END)
        .contains(&us)
        .then(|| format!("{}.{:06}Z", time(us).replace(' ', "T"), us.rem_euclid(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_shows_its_line_and_a_caret() {
        let mistakes = [
            Mistake {
                line: 2,
                column: 8,
                message: "unknown column `amout`; did you mean `amount`?".into(),
                ..Mistake::default()
            },
            Mistake {
                path: "sinks".into(),
                message: "there are none".into(),
                ..Mistake::default()
            },
        ];
        let text = "a\nSELECT amout FROM t\n";
        let rendered = render("q.sql", text, &mistakes, false);
        assert_eq!(
            rendered,
            "error: q.sql:2:8: unknown column `amout`; did you mean `amount`?\n    2 | SELECT amout FROM t\n      |        ^\nerror: q.sql: sinks: there are none\n"
        );
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(amount(999), "999 B");
        assert_eq!(amount(10 << 20), "10.0 MB");
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(951_827_696_000_000), "2000-02-29 12:34:56");
        assert_eq!(time(-1), "1969-12-31 23:59:59");
        assert_eq!(time(i64::MAX), "end");
        assert_eq!(rfc3339(0).as_deref(), Some("1970-01-01T00:00:00.000000Z"));
        assert_eq!(
            rfc3339(951_827_696_000_042).as_deref(),
            Some("2000-02-29T12:34:56.000042Z")
        );
        assert_eq!(rfc3339(-1).as_deref(), Some("1969-12-31T23:59:59.999999Z"));
        let first = -62_167_219_200_000_000;
        assert_eq!(rfc3339(first).as_deref(), Some("0000-01-01T00:00:00.000000Z"));
        assert_eq!(rfc3339(first - 1), None);
        let end = 253_402_300_800_000_000;
        assert_eq!(rfc3339(end - 1).as_deref(), Some("9999-12-31T23:59:59.999999Z"));
        assert_eq!(rfc3339(end), None);
        assert_eq!(rfc3339(i64::MAX), None);
    }
}
