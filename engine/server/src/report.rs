//! Mistakes, as a person reads them: `error: FILE:LINE:COLUMN: what; what instead`, then the line with a caret.

use std::fmt::Write;
use std::io::IsTerminal;

use millstream_proto::v1::Mistake;

/// Longest line that is repeated under an error.
const LINE_CHARS_MAX: usize = 160;

/// All mistakes of a file, ready to be printed.
pub fn render(file: &str, text: &str, mistakes: &[Mistake]) -> String {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
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
        // Writing to a String cannot fail.
        writeln!(
            out,
            "{red}error{plain}: {bold}{place}{plain}: {path}{}",
            mistake.message
        )
        .expect("a String takes all");
        if let Some(source) = (line as usize).checked_sub(1).and_then(|line| lines.get(line))
            && source.chars().count() <= LINE_CHARS_MAX
            && !source.trim().is_empty()
        {
            let indent: String = source
                .chars()
                .take(column.saturating_sub(1) as usize)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            writeln!(out, "{line:>5} | {source}\n      | {indent}{red}^{plain}").expect("a String takes all");
        }
    }
    out
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
        let rendered = render("q.sql", text, &mistakes);
        assert_eq!(
            rendered,
            "error: q.sql:2:8: unknown column `amout`; did you mean `amount`?\n    2 | SELECT amout FROM t\n      |        ^\nerror: q.sql: sinks: there are none\n"
        );
    }
}
