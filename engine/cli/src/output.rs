//! What a command prints: a table or text for people, the messages as JSON or YAML for programs, or names alone.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use millstream_proto::json;
use prost::{Message, Name};
use serde_json::Value;

use crate::failure::{Exit, Failure};
use crate::table::Table;
use crate::terminal;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    Table,
    /// More of them.
    Wide,
    /// As the REST API answers; one document per line with --watch.
    Json,
    Yaml,
    /// Names alone, for scripts.
    Name,
}

/// How this run of the program prints.
#[derive(Debug)]
pub struct Printer {
    pub format: Format,
    /// Standard output is a terminal whose user did not refuse colours.
    pub color: bool,
    pub terminal: bool,
    /// Headings of columns that tables had no room for, until [`Self::hidden`] takes them.
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

    /// The width that tables have to fit into; `None`: any. It is asked for each table, as terminals change their size.
    pub fn width(&self) -> Option<usize> {
        (self.terminal && self.format == Format::Table).then(terminal::width)?
    }

    /// Remembers columns that a table has left out.
    pub fn hide(&self, headings: &[&'static str]) {
        let mut hidden = self.hidden.borrow_mut();
        for heading in headings {
            if !hidden.contains(heading) {
                hidden.push(heading);
            }
        }
    }

    /// A line that names the columns left out since the last call, and how to see them.
    pub fn hidden(&self) -> Option<String> {
        let hidden = self.hidden.take();
        let columns = if hidden.len() == 1 { "column" } else { "columns" };
        (!hidden.is_empty()).then(|| format!("({columns} {} hidden; --output wide|json)", hidden.join(", ")))
    }

    /// Whether a person reads it.
    pub fn people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    pub fn wide(&self) -> bool {
        self.format == Format::Wide
    }

    /// One message in the format asked for; `text` is made only for people.
    pub fn message<M: Message + Name>(&self, message: &M, name: &str, text: impl FnOnce() -> String) -> String {
        self.value(|| json::to_value(message), || vec![name.to_string()], text)
    }

    /// A list of things with names.
    pub fn list<M: Message + Name>(&self, answer: &M, names: Vec<String>, table: impl FnOnce() -> Table) -> String {
        self.value(|| json::to_value(answer), || names, || table().render(self))
    }

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

/// To standard output; a reader that went away is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(reader_gone()),
        Err(error) => Err(Failure::new(Exit::Failed, format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Ends a command whose reader has enough (`| head`): success, and nothing is said.
fn reader_gone() -> Failure {
    std::process::exit(0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Bold,
    Green,
    Yellow,
    Red,
    Dim,
}

impl Paint {
    /// The escape sequence that ends all paint.
    pub const END: &str = "\x1b[0m";

    /// The escape sequence that begins it.
    pub fn begin(self) -> String {
        let code = match self {
            Self::Plain => return String::new(),
            Self::Bold => 1,
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Red => 31,
            Self::Dim => 2,
        };
        format!("\x1b[{code}m")
    }

    fn on(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_string(),
            _ => format!("{}{text}{}", self.begin(), Self::END),
        }
    }
}

/// How long ago, in one unit: `12s`, `5m`, `3h`, `2d`.
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

/// A rate, short: `0`, `12`, `3.4k`, `1.2M`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 0.05 => "0".to_string(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate if rate < 1000.0 => format!("{rate:.0}"),
        rate if rate < 1e6 => format!("{:.1}k", rate / 1e3),
        rate => format!("{:.1}M", rate / 1e6),
    }
}

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
