//! The results as JUnit XML, which CI systems read.

use std::fmt::Write;

use super::Outcome;

/// Renders results: a suite per file, a case per test and mode.
pub(super) fn render(outcomes: &[Outcome]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for suite in outcomes.chunk_by(|a, b| a.file == b.file) {
        let failures = suite.iter().filter(|outcome| !outcome.differences.is_empty()).count();
        let name = suite.first().map_or("", |outcome| outcome.file.as_str());
        // Writing to a String cannot fail.
        writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\">",
            escape(name),
            suite.len()
        )
        .ok();
        for outcome in suite {
            let seconds = outcome.elapsed.as_secs_f64();
            let (name, mode) = (escape(&outcome.name), outcome.mode);
            write!(
                xml,
                "    <testcase classname=\"{mode}\" name=\"{name}\" time=\"{seconds:.3}\""
            )
            .ok();
            if outcome.differences.is_empty() {
                xml.push_str("/>\n");
                continue;
            }
            let text = escape(&outcome.differences.join("\n"));
            writeln!(xml, "><failure message=\"differences\">{text}</failure></testcase>").ok();
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Replaces characters that XML reserves, and control characters, which it cannot contain.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_failures_is_escaped() {
        let outcome = |name: &str, differences: &[&str]| Outcome {
            file: "a.tests.yaml".into(),
            name: name.into(),
            mode: "stream",
            differences: differences.iter().map(|line| (*line).to_owned()).collect(),
            elapsed: std::time::Duration::from_millis(5),
        };
        let xml = render(&[outcome("a < b", &[]), outcome("c", &["x: missing {\"a\": 1}\u{1}"])]);
        assert!(
            xml.contains("<testsuite name=\"a.tests.yaml\" tests=\"2\" failures=\"1\">"),
            "{xml}"
        );
        assert!(
            xml.contains("<testcase classname=\"stream\" name=\"a &lt; b\" time=\"0.005\"/>"),
            "{xml}"
        );
        assert!(xml.contains("x: missing {&quot;a&quot;: 1}\u{fffd}</failure>"), "{xml}");
    }
}
