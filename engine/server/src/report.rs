//! Mistakes, as a person reads them: `error: FILE:LINE:COLUMN: what; what instead`, then the line with a caret.

use std::fmt::Write;
use std::io::IsTerminal;

use millstream_planner::Location;
use millstream_proto::spec::Positions;

/// Longest line that is repeated under an error.
const LINE_CHARS_MAX: usize = 160;

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// 1-based.
    pub at: Option<(u64, u64)>,
    pub message: String,
}

impl Mistake {
    /// From a mistake of the spec reader, which knows line and column itself.
    pub fn of_spec(error: &millstream_proto::spec::Error) -> Self {
        Self {
            at: error.at,
            message: if error.path.is_empty() {
                error.message.clone()
            } else {
                format!("{}: {}", error.path, error.message)
            },
        }
    }

    /// From a mistake of the planner: paths of a spec are looked up in the file.
    pub fn of_plan(error: &millstream_planner::Error, positions: &Positions) -> Self {
        let message = &error.message;
        match &error.location {
            Location::Unknown => Self {
                at: None,
                message: message.clone(),
            },
            Location::LineColumn { line, column } => Self {
                at: Some((*line, *column)),
                message: message.clone(),
            },
            Location::Path(path) => Self {
                at: positions.find(path).map(|position| (position.line, position.column)),
                message: format!("{path}: {message}"),
            },
            Location::Within { path, line, column } => Self {
                at: positions.find_within(path, *line, *column),
                message: format!("{path}: {message}"),
            },
        }
    }
}

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
        let place = match mistake.at {
            Some((line, column)) => format!("{file}:{line}:{column}"),
            None => file.to_string(),
        };
        // Writing to a String cannot fail.
        writeln!(out, "{red}error{plain}: {bold}{place}{plain}: {}", mistake.message).expect("a String takes all");
        if let Some((line, column)) = mistake.at
            && let Some(source) = usize::try_from(line)
                .ok()
                .and_then(|line| lines.get(line.checked_sub(1)?))
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
                at: Some((2, 8)),
                message: "unknown column `amout`; did you mean `amount`?".into(),
            },
            Mistake {
                at: None,
                message: "no sinks".into(),
            },
        ];
        let text = "a\nSELECT amout FROM t\n";
        let rendered = render("q.sql", text, &mistakes);
        assert_eq!(
            rendered,
            "error: q.sql:2:8: unknown column `amout`; did you mean `amount`?\n    2 | SELECT amout FROM t\n      |        ^\nerror: q.sql: no sinks\n"
        );
    }
}
