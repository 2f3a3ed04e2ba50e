//! Output of commands: a table or text for people, messages as JSON or YAML for programs, or names alone.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use millstream_proto::json;
use prost::{Message, Name};
use serde_json::Value;

use crate::failure::{Exit, Failure};
use crate::paint::Paint;
use crate::table::Table;
use crate::terminal;

/// Value of `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    Table,
    /// Columns for people, all of them.
    Wide,
    /// JSON documents of the REST API; one per line with --watch.
    Json,
    /// The same documents as YAML.
    Yaml,
    /// Names alone, for scripts.
    Name,
}

/// Output settings of this process.
#[derive(Debug)]
pub struct Printer {
    pub format: Format,
    /// True if standard output is a terminal and NO_COLOR is not set.
    pub color: bool,
    /// True if standard output is a terminal.
    pub terminal: bool,
    /// Headings of the columns hidden since the last [`Self::hidden_columns`].
    hidden: RefCell<Vec<&'static str>>,
}

impl Printer {
    pub fn new(format: Format) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            format,
            terminal,
            color: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            hidden: RefCell::default(),
        }
    }

    /// Returns the width that tables must fit into, `None` for any. Read for each table, as terminals change their
    /// size.
    pub fn width(&self) -> Option<usize> {
        (self.terminal && self.format == Format::Table).then(terminal::width)?
    }

    /// Returns the table's text, and remembers the columns that do not fit for [`Self::hidden_columns`].
    pub fn render(&self, table: &Table) -> String {
        let (text, headings) = table.layout(self.color, self.width());
        let mut hidden = self.hidden.borrow_mut();
        for heading in headings {
            if !hidden.contains(&heading) {
                hidden.push(heading);
            }
        }
        text
    }

    /// Returns a line that names the columns hidden since the last call and the options that show them.
    pub fn hidden_columns(&self) -> Option<String> {
        let hidden = self.hidden.take();
        let columns = if hidden.len() == 1 { "column" } else { "columns" };
        (!hidden.is_empty()).then(|| format!("({columns} {} hidden; --output wide|json)", hidden.join(", ")))
    }

    /// Returns true if the format is text for people.
    pub fn is_text(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Returns true if tables have all their columns.
    pub fn is_wide(&self) -> bool {
        self.format == Format::Wide
    }

    /// Returns a message in the selected format; `text` is called only for the formats for people.
    pub fn message<M: Message + Name>(&self, message: &M, name: &str, text: impl FnOnce() -> String) -> String {
        self.value(|| json::to_value(message), || vec![name.to_string()], text)
    }

    /// Returns a list of named entries in the selected format.
    pub fn list<M: Message + Name>(&self, answer: &M, names: Vec<String>, table: impl FnOnce() -> Table) -> String {
        self.value(|| json::to_value(answer), || names, || self.render(&table()))
    }

    /// Returns the one of `value`, `names` and `text` that the selected format needs.
    pub fn value(
        &self,
        value: impl FnOnce() -> Value,
        names: impl FnOnce() -> Vec<String>,
        text: impl FnOnce() -> String,
    ) -> String {
        match self.format {
            Format::Table | Format::Wide => text(),
            Format::Json => format!("{:#}\n", value()),
            Format::Yaml => json::to_yaml(&value()),
            Format::Name => names().into_iter().map(|name| name + "\n").collect(),
        }
    }

    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if self.color { paint.on(text) } else { text.to_string() }
    }
}

/// Writes to standard output. Ends the process with success if the reader has closed the pipe (`| head`).
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(Exit::Failed, format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Returns true if errors, which go to standard error, may be coloured.
pub fn error_color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints the coordinator's notes about a pipeline to standard error.
pub fn print_notes(notes: &[String]) {
    for note in notes {
        eprintln!("note: {note}");
    }
}

/// Returns the time since `then_us` in one unit: `12s`, `5m`, `3h`, `2d`.
pub fn age(now_us: i64, then_us: i64) -> String {
    if then_us <= 0 {
        return "-".to_string();
    }
    let seconds = now_us.saturating_sub(then_us).max(0) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Returns a rate in short form: `0`, `12`, `3.4k`, `1.2M`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 0.05 => "0".to_string(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate if rate < 1000.0 => format!("{rate:.0}"),
        rate if rate < 1e6 => format!("{:.1}k", rate / 1e3),
        rate => format!("{:.1}M", rate / 1e6),
    }
}

/// Returns the wall-clock time in microseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the crate")]
pub fn now_us() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_rates_are_short() {
        assert_eq!(age(1_000_000_000, 0), "-");
        assert_eq!(age(10_000_000, 20_000_000), "0s");
        assert_eq!(age(200_000_000, 1_000_000), "3m");
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(3456.0), "3.5k");
    }
}
