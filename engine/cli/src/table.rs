//! Tables for people, laid out by `comfy-table`: columns under headings, two spaces apart, without rules.
//!
//! On a terminal a table is fitted to the width: columns are hidden, lowest rank first, and long texts of the columns
//! that are [always shown](ALWAYS) are wrapped. Elsewhere every column has its full width. Widths are those of Unicode:
//! a wide character takes two places, a combining one none.

use comfy_table::{CellAlignment, ContentArrangement, presets};

use crate::paint::Paint;

/// Rank of a column that is never hidden.
pub const ALWAYS: u8 = u8::MAX;
/// Width to which an always-shown column is wrapped before another column is hidden.
const WRAPPED_WIDTH: usize = 24;
/// Spaces between columns.
const GAP: usize = 2;

/// A heading and a rank; columns of lower rank are hidden first.
pub type Column = (&'static str, u8);

/// Columns under headings.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// Text printed instead of a table without rows.
    empty: String,
}

/// Text of one row and column.
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
    /// Returns a cell in this colour.
    pub fn painted(text: impl Into<String>, paint: Paint) -> Self {
        Self {
            paint,
            ..Self::from(text)
        }
    }

    /// Returns a right-aligned cell.
    pub fn number(text: impl Into<String>) -> Self {
        Self {
            right: true,
            ..Self::from(text)
        }
    }

    /// Returns the text in one line, between [`marks`] if it is coloured.
    fn marked(&self, color: bool) -> String {
        let clean = |c: char| match c {
            c if c.is_control() => Some(' '),
            c if marks::is_mark(c) => None,
            c => Some(c),
        };
        let text: String = self.text.chars().filter_map(clean).collect();
        match (color, marks::of(self.paint)) {
            (true, Some(mark)) if !text.is_empty() => format!("{mark}{text}{}", marks::END),
            _ => text,
        }
    }
}

/// Zero-width characters that represent colours during layout, which would count the letters of an escape sequence.
/// They are from Unicode's block of tags, and are removed from the texts of cells.
mod marks {
    use crate::paint::Paint;

    pub const END: char = '\u{E007F}';
    const FIRST: u32 = 0xE0061;
    const PAINTS: [Paint; 5] = [Paint::Bold, Paint::Green, Paint::Yellow, Paint::Red, Paint::Dim];

    pub fn is_mark(c: char) -> bool {
        ('\u{E0000}'..='\u{E007F}').contains(&c)
    }

    pub fn of(paint: Paint) -> Option<char> {
        let place = PAINTS.iter().position(|known| *known == paint)?;
        char::from_u32(FIRST + place as u32)
    }

    /// Replaces marks by escape sequences.
    pub fn replaced(text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            let paint = (c as u32)
                .checked_sub(FIRST)
                .and_then(|place| PAINTS.get(place as usize));
            match paint {
                Some(paint) => out.push_str(&paint.begin()),
                None if c == END => out.push_str(Paint::END),
                None => out.push(c),
            }
        }
        out
    }
}

impl Table {
    /// Creates a table without rows; `empty` is printed if it stays so.
    pub fn new(columns: &[Column], empty: impl Into<String>) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
            empty: empty.into(),
        }
    }

    /// Adds a row, with one cell for each column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// Returns the text and the headings of the columns that do not fit into `width`; `None`: all columns, at full
    /// width.
    pub fn layout(&self, color: bool, width: Option<usize>) -> (String, Vec<&'static str>) {
        if self.rows.is_empty() {
            return (format!("{}\n", self.empty), Vec::new());
        }
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let mut hidden = Vec::new();
        let mut table = self.of_columns(&shown, color);
        while let Some(width) = width
            && let Some(place) = self.column_to_hide(&shown, &table, width)
        {
            hidden.push(shown.remove(place));
            table = self.of_columns(&shown, color);
        }
        if let Some(width) = width
            && table_width(&table.column_max_content_widths()) > width
        {
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(u16::try_from(width).unwrap_or(u16::MAX));
        }
        hidden.sort_unstable();
        let headings = hidden.into_iter().map(|column| self.columns[column].0).collect();
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        (marks::replaced(&text), headings)
    }

    /// Returns the column to hide next, as an index into `shown`; `None` if the table fits or no column may be hidden.
    fn column_to_hide(&self, shown: &[usize], table: &comfy_table::Table, width: usize) -> Option<usize> {
        let rank = |place: &usize| self.columns[shown[*place]].1;
        let widths = table.column_max_content_widths().into_iter().enumerate();
        let needed = widths.map(|(place, width)| match rank(&place) {
            ALWAYS => width.min(WRAPPED_WIDTH as u16),
            _ => width,
        });
        if table_width(&needed.collect::<Vec<_>>()) <= width {
            return None;
        }
        // Of columns with the same rank the last one.
        let candidates = (0..shown.len()).rev().filter(|place| rank(place) != ALWAYS);
        candidates.min_by_key(rank)
    }

    fn of_columns(&self, shown: &[usize], color: bool) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING);
        let headings = shown
            .iter()
            .map(|column| Cell::painted(self.columns[*column].0, Paint::Bold).marked(color));
        table.set_header(headings.collect::<Vec<_>>());
        for row in &self.rows {
            let cells = shown.iter().map(|column| row[*column].marked(color));
            table.add_row(cells.collect::<Vec<_>>());
        }
        for (place, column) in table.column_iter_mut().enumerate() {
            let gap = if place + 1 < shown.len() { GAP as u16 } else { 0 };
            column.set_padding((0, gap));
            if self.rows.iter().any(|row| row[shown[place]].right) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

fn table_width(columns: &[u16]) -> usize {
    let contents: usize = columns.iter().map(|width| usize::from(*width)).sum();
    contents + GAP * columns.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = [("NAME", ALWAYS), ("STATE", ALWAYS), ("ROWS", 1), ("LAG", 2)];
        let mut table = Table::new(&columns, "nothing");
        let row = |name: &str, state: Cell, rows: &str, lag: &str| {
            vec![name.into(), state, Cell::number(rows), Cell::number(lag)]
        };
        table.row(row("a", Cell::painted("running", Paint::Green), "5", "0"));
        table.row(row("longer", "x".into(), "12,345", "17"));
        table
    }

    #[track_caller]
    fn check(table: &Table, width: Option<usize>, expected: &str, hidden: &[&str]) {
        let (text, found) = table.layout(false, width);
        assert_eq!(text, expected);
        assert_eq!(found, hidden);
    }

    #[test]
    fn columns_line_up_with_and_without_colour() {
        assert_eq!(
            Table::new(&[("NAME", ALWAYS)], "nothing").layout(true, None).0,
            "nothing\n"
        );
        let expected = "NAME    STATE      ROWS  LAG\na       running       5    0\nlonger  x        12,345   17\n";
        check(&table(), None, expected, &[]);
        let (painted, _) = table().layout(true, None);
        assert!(painted.contains("\x1b[32mrunning\x1b[0m       5"), "{painted:?}");
        let mut plain = painted;
        for sequence in ["\x1b[0m", "\x1b[1m", "\x1b[32m"] {
            plain = plain.replace(sequence, "");
        }
        assert_eq!(plain, expected);
    }

    #[test]
    fn columns_of_the_lowest_rank_are_left_out_first() {
        let whole = "NAME    STATE      ROWS  LAG\na       running       5    0\nlonger  x        12,345   17\n";
        check(&table(), Some(28), whole, &[]);
        check(
            &table(),
            Some(27),
            "NAME    STATE    LAG\na       running    0\nlonger  x         17\n",
            &["ROWS"],
        );
        check(
            &table(),
            Some(15),
            "NAME    STATE\na       running\nlonger  x\n",
            &["ROWS", "LAG"],
        );
    }

    #[test]
    fn long_texts_of_kept_columns_are_wrapped_and_lose_nothing() {
        let mut table = Table::new(&[("STATE", ALWAYS), ("ROWS", 1), ("REASON", ALWAYS)], "");
        let reason = Cell::painted("waiting for 4 slots, 2 are free", Paint::Red);
        table.row(vec!["deploying".into(), Cell::number("7"), reason]);
        check(
            &table,
            Some(41),
            "STATE      ROWS  REASON\ndeploying     7  waiting for 4 slots, 2\n                 are free\n",
            &[],
        );
        let (painted, _) = table.layout(true, Some(41));
        assert!(painted.contains("\x1b[31mwaiting for 4 slots, 2"), "{painted:?}");
        assert!(painted.contains("are free\x1b[0m"), "{painted:?}");
        for width in 1..80 {
            let (text, _) = table.layout(true, Some(width));
            assert_eq!(text.matches("\x1b[31m").count(), 1, "{width}: {text:?}");
        }
    }

    #[test]
    fn wide_characters_take_two_places_and_combining_ones_none() {
        let mut table = Table::new(&[("NAME", ALWAYS), ("JOBS", ALWAYS)], "");
        table.row(vec!["日本".into(), "a".into()]);
        table.row(vec!["e\u{301}t".into(), "b".into()]);
        table.row(vec!["plain".into(), "c\nd\te\u{E0061}".into()]);
        check(
            &table,
            None,
            "NAME   JOBS\n日本   a\ne\u{301}t     b\nplain  c d e\n",
            &[],
        );
    }
}
