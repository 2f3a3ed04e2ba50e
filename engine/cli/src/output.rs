//! What a command prints: a table or text for people, the messages as JSON or YAML for programs, or names alone.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use millstream_proto::json;
use prost::{Message, Name};
use serde_json::Value;

use crate::failure::{Exit, Failure};

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
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    pub format: Format,
    /// Standard output is a terminal whose user did not refuse colours.
    pub color: bool,
    pub terminal: bool,
}

impl Printer {
    pub fn new(format: Format) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            format,
            terminal,
            color: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
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
        self.value(|| json::to_value(answer), || names, || table().render(self.color))
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
    fn on(self, text: &str) -> String {
        let code = match self {
            Self::Plain => return text.to_string(),
            Self::Bold => 1,
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Red => 31,
            Self::Dim => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Columns under headings, two spaces apart.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    /// Said where there are no rows.
    empty: String,
}

#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    paint: Paint,
    right: bool,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            paint: Paint::Plain,
            right: false,
        }
    }
}

impl Cell {
    pub fn painted(text: impl Into<String>, paint: Paint) -> Self {
        Self {
            paint,
            ..Self::from(text)
        }
    }

    /// Numbers stand under one another.
    pub fn number(text: impl Into<String>) -> Self {
        Self {
            right: true,
            ..Self::from(text)
        }
    }
}

impl Table {
    pub fn new(headings: &[&'static str], empty: impl Into<String>) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: Vec::new(),
            empty: empty.into(),
        }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub fn render(&self, color: bool) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", self.empty);
        }
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let cells = cells.map(|cell| cell.text.chars().count());
            cells.chain([self.headings[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let right = |column: usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.any(|cell| cell.right)
        };
        let headings: Vec<Cell> = self
            .headings
            .iter()
            .enumerate()
            .map(|(column, heading)| Cell {
                right: right(column),
                ..Cell::painted(*heading, Paint::Bold)
            })
            .collect();
        let mut out = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                if column > 0 {
                    line.push_str("  ");
                }
                let pad = widths[column].saturating_sub(cell.text.chars().count());
                let text = if color {
                    cell.paint.on(&cell.text)
                } else {
                    cell.text.clone()
                };
                if cell.right {
                    line.push_str(&" ".repeat(pad));
                    line.push_str(&text);
                } else {
                    line.push_str(&text);
                    // Nothing trails the last column.
                    if column + 1 < row.len() {
                        line.push_str(&" ".repeat(pad));
                    }
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
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
    fn columns_line_up_with_and_without_colour() {
        let mut table = Table::new(&["NAME", "STATE", "ROWS"], "nothing");
        assert_eq!(table.render(true), "nothing\n");
        table.row(vec![
            "a".into(),
            Cell::painted("running", Paint::Green),
            Cell::number("5"),
        ]);
        table.row(vec!["longer".into(), "x".into(), Cell::number("12,345")]);
        assert_eq!(
            table.render(false),
            "NAME    STATE      ROWS\na       running       5\nlonger  x        12,345\n"
        );
        assert!(table.render(true).contains("\x1b[32mrunning\x1b[0m       5"));
    }

    #[test]
    fn ages_and_rates_are_short() {
        assert_eq!(age(1_000_000_000, 0), "-");
        assert_eq!(age(10_000_000, 20_000_000), "0s");
        assert_eq!(age(200_000_000, 1_000_000), "3m");
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(3456.0), "3.5k");
    }
}
