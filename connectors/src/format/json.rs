//! JSON records to columns, in one pass.
//!
//! The parser knows what each column wants, so it builds no tree: it walks a record once and writes every value
//! straight into its column. Fields that no column wants are checked for being JSON and dropped. Objects usually come
//! with their fields in the same order, so a field's column is found by one comparison (see [`FieldOrder`]).
//!
//! Values are taken as Flink takes them: numbers in quotes are numbers, numbers and booleans (and whole objects) are
//! text for a STRING column, timestamps may be written the SQL way or the ISO way, and a timestamp may be a number since
//! the epoch. A later field of the same name wins. What breaks JSON's grammar, a number that does not fit its column
//! and a missing NOT NULL column reject the record.
//!
//! [`FieldOrder`]: super::cells::FieldOrder

use std::borrow::Cow;

use arrow_schema::SchemaRef;

use super::cells::{CellResult, Column, FieldOrder, Problem, Row, Values, parse_float, parse_integer, wrong};
use super::ignored::Ignored;
use super::text::Utf8Records;
use super::{Decoded, Decoder, Records, Rejection};
use crate::Error;
use crate::options::Options;

/// Arrays and objects inside one another, at most: deeper records are rejected.
const NESTING_MAX: usize = 512;

pub struct JsonDecoder {
    row: Row,
    order: FieldOrder,
    settings: Settings,
}

struct Settings {
    /// Set where `json.ignore-parse-errors` is.
    ignored: Option<Ignored>,
    fail_on_missing: bool,
    /// What one unit of a timestamp that is a number is, as a fraction in microseconds.
    number_unit: (i64, i64),
}

impl JsonDecoder {
    pub fn new(schema: &SchemaRef, columns: &[usize], options: &Options<'_>) -> Result<Self, Error> {
        let schema = SchemaRef::new(schema.project(columns)?);
        let order = FieldOrder::new(schema.fields().iter().map(|field| field.name().as_str()));
        let ignore_errors = options.boolean("json.ignore-parse-errors")?.unwrap_or(false);
        let fail_on_missing = options.boolean("json.fail-on-missing-field")?.unwrap_or(false);
        if ignore_errors && fail_on_missing {
            return Err(Error::Invalid(format!(
                "table `{}`: 'json.ignore-parse-errors' and 'json.fail-on-missing-field' cannot both be 'true'",
                options.table()
            )));
        }
        let number_unit = match options.text("json.timestamp-format.number").unwrap_or("ms") {
            "s" => (1_000_000, 1),
            "us" => (1, 1),
            "ns" => (1, 1_000),
            _ => (1_000, 1),
        };
        Ok(Self {
            row: Row::new(schema)?,
            order,
            settings: Settings {
                ignored: ignore_errors.then(|| Ignored::of(options.table())),
                fail_on_missing,
                number_unit,
            },
        })
    }

    fn record(&mut self, record: &[u8]) -> Result<bool, Problem> {
        let mut cursor = Cursor { bytes: record, at: 0 };
        cursor.skip_blanks();
        match cursor.peek() {
            None => return Ok(false),
            Some(b'{') => {}
            Some(_) => return Err(cursor.unexpected("a JSON object")),
        }
        let rows = self.row.rows;
        object(
            &mut cursor,
            &mut self.row.columns,
            &mut self.order,
            rows,
            &self.settings,
            1,
        )?;
        cursor.skip_blanks();
        if cursor.peek().is_some() {
            return Err(cursor.unexpected("the end of the record"));
        }
        Ok(true)
    }
}

impl Decoder for JsonDecoder {
    fn schema(&self) -> SchemaRef {
        self.row.schema().clone()
    }

    fn decode(&mut self, records: Records<'_>) -> Result<Decoded, Error> {
        let utf8 = Utf8Records::new(records)?;
        let mut rejected = Vec::new();
        let mut skipped = Vec::new();
        for index in 0..records.ranges.len() {
            let outcome = match utf8.record(index) {
                Ok(record) => self.record(record),
                Err(problem) => Err(problem),
            };
            match outcome {
                Ok(true) => self.row.rows += 1,
                Ok(false) => skipped.push(index),
                Err(problem) => {
                    self.row.roll_back();
                    match &self.settings.ignored {
                        Some(ignored) => {
                            ignored.records.increment(1);
                            skipped.push(index);
                        }
                        None => rejected.push(Rejection {
                            record: index,
                            error: problem.0.into(),
                        }),
                    }
                }
            }
        }
        Ok(Decoded {
            rows: self.row.finish()?,
            rejected,
            skipped,
        })
    }
}

/// Reads an object's fields into `columns`, each of which has `rows` cells before and `rows + 1` after.
fn object(
    cursor: &mut Cursor<'_>,
    columns: &mut [Column],
    order: &mut FieldOrder,
    rows: usize,
    settings: &Settings,
    depth: usize,
) -> CellResult {
    cursor.at += 1;
    let mut filled = 0;
    let mut nth = 0;
    cursor.skip_blanks();
    if cursor.peek() == Some(b'}') {
        cursor.at += 1;
    } else {
        loop {
            cursor.skip_blanks();
            let name = cursor.string()?;
            cursor.skip_blanks();
            cursor.expect(b':')?;
            cursor.skip_blanks();
            match order.find(nth, &name) {
                Some(index) => {
                    let column = &mut columns[index];
                    if column.len() > rows {
                        column.truncate(rows);
                    } else {
                        filled += 1;
                    }
                    field(cursor, column, rows, settings, depth)?;
                }
                None => cursor.skip_value(depth)?,
            }
            nth += 1;
            cursor.skip_blanks();
            match cursor.next() {
                Some(b',') => {}
                Some(b'}') => break,
                _ => {
                    cursor.at = cursor.at.saturating_sub(1);
                    return Err(cursor.unexpected("`,` or `}`"));
                }
            }
        }
    }
    if filled < columns.len() {
        for column in columns.iter_mut().filter(|column| column.len() == rows) {
            if settings.fail_on_missing {
                return Err(Problem::new("is missing").inside(column.field.name()));
            }
            column
                .push_null()
                .map_err(|problem| problem.inside(column.field.name()))?;
        }
    }
    Ok(())
}

#[inline]
fn field(cursor: &mut Cursor<'_>, column: &mut Column, rows: usize, settings: &Settings, depth: usize) -> CellResult {
    let start = cursor.at;
    match value(cursor, column, settings, depth) {
        Ok(()) => Ok(()),
        Err(problem) => match &settings.ignored {
            Some(ignored) => {
                ignored.fields.increment(1);
                column.truncate(rows);
                cursor.at = start;
                cursor.skip_value(depth)?;
                column.push_null()
            }
            None => Err(problem.inside(column.field.name())),
        },
    }
}

/// Reads one value into the column's next cell. The cursor is at its first byte.
#[inline]
fn value(cursor: &mut Cursor<'_>, column: &mut Column, settings: &Settings, depth: usize) -> CellResult {
    let Some(first) = cursor.peek() else {
        return Err(cursor.unexpected("a value"));
    };
    if first == b'n' {
        cursor.word(b"null")?;
        return column.push_null();
    }
    match (&mut column.values, first) {
        (Values::Utf8(bytes), b'"') => {
            cursor.string_into(&mut bytes.data)?;
            bytes.finish_cell();
            Ok(())
        }
        (Values::Utf8(bytes), _) => {
            let start = cursor.at;
            cursor.skip_value(depth)?;
            bytes.push(&cursor.bytes[start..cursor.at]);
            Ok(())
        }
        (Values::Int64(values), b'-' | b'0'..=b'9') => {
            values.push(cursor.integer("a BIGINT")?);
            Ok(())
        }
        (Values::Int32(values), b'-' | b'0'..=b'9') => {
            values.push(cursor.narrow("an INT")?);
            Ok(())
        }
        (Values::Int16(values), b'-' | b'0'..=b'9') => {
            values.push(cursor.narrow("a SMALLINT")?);
            Ok(())
        }
        (Values::Int8(values), b'-' | b'0'..=b'9') => {
            values.push(cursor.narrow("a TINYINT")?);
            Ok(())
        }
        (Values::Timestamp(values), b'-' | b'0'..=b'9') => {
            let number = cursor.integer("a TIMESTAMP in whole units since 1970-01-01")?;
            let (times, divided) = settings.number_unit;
            let value = number
                .checked_mul(times)
                .map(|us| us.div_euclid(divided))
                .filter(|us| in_years(*us));
            values
                .push(value.ok_or_else(|| {
                    Problem::new(format!("{number} is not a TIMESTAMP between the years 1 and 9999"))
                })?);
            Ok(())
        }
        (Values::Float64(values), b'-' | b'0'..=b'9') => {
            let text = cursor.number()?;
            let value: f64 = parse_float(text).ok_or_else(|| wrong(text, "a DOUBLE"))?;
            if value.is_infinite() {
                return Err(wrong(text, "within the range of a DOUBLE"));
            }
            values.push(value);
            Ok(())
        }
        (Values::Float32(values), b'-' | b'0'..=b'9') => {
            let text = cursor.number()?;
            let value: f32 = parse_float(text).ok_or_else(|| wrong(text, "a FLOAT"))?;
            if value.is_infinite() {
                return Err(wrong(text, "within the range of a FLOAT"));
            }
            values.push(value);
            Ok(())
        }
        (Values::Decimal { .. }, b'-' | b'0'..=b'9') => {
            let text = cursor.number()?;
            column.push_text(text)
        }
        (Values::Boolean(values), b't') => {
            cursor.word(b"true")?;
            values.push(true);
            Ok(())
        }
        (Values::Boolean(values), b'f') => {
            cursor.word(b"false")?;
            values.push(false);
            Ok(())
        }
        (Values::Struct { children, rows, order }, b'{') => {
            let depth = deeper(depth)?;
            let length = *rows;
            object(cursor, children, order, length, settings, depth)?;
            *rows += 1;
            Ok(())
        }
        (Values::List { ends, child }, b'[') => {
            array(cursor, child, settings, deeper(depth)?)?;
            ends.push(length_of(child)?);
            Ok(())
        }
        (Values::Map { ends, key, value }, b'{') => {
            entries(cursor, key, value, settings, deeper(depth)?)?;
            ends.push(length_of(key)?);
            Ok(())
        }
        (Values::Struct { .. } | Values::List { .. } | Values::Map { .. }, _) => {
            let start = cursor.at;
            cursor.skip_value(depth)?;
            let text = &cursor.bytes[start..cursor.at];
            Err(wrong(
                text,
                if matches!(column.values, Values::List { .. }) {
                    "an array"
                } else {
                    "an object"
                },
            ))
        }
        (_, b'"') => {
            let text = cursor.string()?;
            column.push_text(&text)
        }
        _ => {
            let start = cursor.at;
            cursor.skip_value(depth)?;
            Err(wrong(
                &cursor.bytes[start..cursor.at],
                &format!("a value for the type {}", column.field.data_type()),
            ))
        }
    }
}

fn array(cursor: &mut Cursor<'_>, child: &mut Column, settings: &Settings, depth: usize) -> CellResult {
    cursor.at += 1;
    cursor.skip_blanks();
    if cursor.peek() == Some(b']') {
        cursor.at += 1;
        return Ok(());
    }
    loop {
        cursor.skip_blanks();
        value(cursor, child, settings, depth)?;
        cursor.skip_blanks();
        match cursor.next() {
            Some(b',') => {}
            Some(b']') => return Ok(()),
            _ => {
                cursor.at = cursor.at.saturating_sub(1);
                return Err(cursor.unexpected("`,` or `]`"));
            }
        }
    }
}

fn entries(
    cursor: &mut Cursor<'_>,
    key: &mut Column,
    value_column: &mut Column,
    settings: &Settings,
    depth: usize,
) -> CellResult {
    cursor.at += 1;
    cursor.skip_blanks();
    if cursor.peek() == Some(b'}') {
        cursor.at += 1;
        return Ok(());
    }
    loop {
        cursor.skip_blanks();
        let name = cursor.string()?;
        key.push_text(&name)?;
        cursor.skip_blanks();
        cursor.expect(b':')?;
        cursor.skip_blanks();
        value(cursor, value_column, settings, depth)?;
        cursor.skip_blanks();
        match cursor.next() {
            Some(b',') => {}
            Some(b'}') => return Ok(()),
            _ => {
                cursor.at = cursor.at.saturating_sub(1);
                return Err(cursor.unexpected("`,` or `}`"));
            }
        }
    }
}

fn length_of(column: &Column) -> Result<i32, Problem> {
    i32::try_from(column.len()).map_err(|_| Problem::new("too many elements for one batch"))
}

fn deeper(depth: usize) -> Result<usize, Problem> {
    if depth >= NESTING_MAX {
        return Err(Problem::new(format!("is nested deeper than {NESTING_MAX} levels")));
    }
    Ok(depth + 1)
}

fn in_years(timestamp_us: i64) -> bool {
    (-62_135_596_800_000_000..253_402_300_800_000_000).contains(&timestamp_us)
}

/// A place in one record, which is valid UTF-8.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    #[inline]
    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> CellResult {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.unexpected(&format!("`{}`", char::from(byte))))
    }

    #[cold]
    fn unexpected(&self, wanted: &str) -> Problem {
        let at = self.at.min(self.bytes.len());
        let found = match std::str::from_utf8(&self.bytes[at..])
            .ok()
            .and_then(|rest| rest.chars().next())
        {
            Some(found) => format!("`{}`", found.escape_debug()),
            None => "the end".to_string(),
        };
        Problem::new(format!("not JSON: expected {wanted} at byte {at}, found {found}"))
    }

    fn word(&mut self, word: &[u8]) -> CellResult {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.unexpected("a value"))
    }

    /// Index of the first `"`, `\` or control character at or after `from`; the length if there is none.
    #[inline]
    fn special(&self, from: usize) -> usize {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGHS: u64 = 0x8080_8080_8080_8080;
        let mut at = from;
        while let Some(chunk) = self
            .bytes
            .get(at..at + 8)
            .and_then(|chunk| <[u8; 8]>::try_from(chunk).ok())
        {
            let word = u64::from_le_bytes(chunk);
            let quote = word ^ (ONES * b'"' as u64);
            let slash = word ^ (ONES * b'\\' as u64);
            // A byte of `x.wrapping_sub(ONES) & !x` has its high bit set where that byte of `x` is zero; false hits
            // appear only above a true one, and the lowest is what counts. The same with 0x20 finds what is below it.
            let hits = (quote.wrapping_sub(ONES) & !quote)
                | (slash.wrapping_sub(ONES) & !slash)
                | (word.wrapping_sub(ONES * 0x20) & !word);
            let hits = hits & HIGHS;
            if hits != 0 {
                return at + (hits.trailing_zeros() / 8) as usize;
            }
            at += 8;
        }
        while at < self.bytes.len() && !matches!(self.bytes[at], b'"' | b'\\' | 0..0x20) {
            at += 1;
        }
        at
    }

    /// The content of a string; the cursor is at its opening quote.
    #[inline]
    fn string(&mut self) -> Result<Cow<'a, [u8]>, Problem> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("`\"`"));
        }
        let start = self.at + 1;
        let end = self.special(start);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Cow::Borrowed(&self.bytes[start..end]));
        }
        let mut content = Vec::new();
        self.string_into(&mut content)?;
        Ok(Cow::Owned(content))
    }

    /// Appends the content of a string; the cursor is at its opening quote.
    #[inline]
    fn string_into(&mut self, out: &mut Vec<u8>) -> CellResult {
        let mut start = self.at + 1;
        loop {
            let end = self.special(start);
            out.extend_from_slice(&self.bytes[start..end]);
            self.at = end;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.escape(out)?;
                    start = self.at;
                }
                Some(_) => return Err(self.unexpected("a string without raw control characters")),
                None => return Err(self.unexpected("`\"`")),
            }
        }
    }

    #[cold]
    fn escape(&mut self, out: &mut Vec<u8>) -> CellResult {
        self.at += 1;
        let plain = match self.peek() {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let first = self.hex()?;
                let code = match first {
                    0xD800..0xDC00 if self.bytes[self.at..].starts_with(b"\\u") => {
                        let before = self.at;
                        self.at += 1;
                        match self.hex()? {
                            second @ 0xDC00..0xE000 => 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                            _ => {
                                self.at = before;
                                first
                            }
                        }
                    }
                    other => other,
                };
                // Half a surrogate pair stands for no character: as in Java's UTF-8 encoder, it is replaced.
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.unexpected("one of the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u")),
        };
        out.push(plain);
        self.at += 1;
        Ok(())
    }

    /// Four hexadecimal digits; the cursor is at the `u` before them.
    fn hex(&mut self) -> Result<u32, Problem> {
        let digits = self.bytes.get(self.at + 1..self.at + 5);
        let code = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                self.at += 5;
                Ok(code)
            }
            None => Err(self.unexpected("four hexadecimal digits")),
        }
    }

    /// The text of a number; the cursor is at its first byte.
    fn number(&mut self) -> Result<&'a [u8], Problem> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = self.at;
        self.digits()?;
        if self.bytes[whole] == b'0' && self.at > whole + 1 {
            self.at = whole + 1;
            return Err(self.unexpected("no digit after a leading zero"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.bytes[start..self.at])
    }

    fn digits(&mut self) -> CellResult {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.unexpected("a digit"))
        } else {
            Ok(())
        }
    }

    #[inline]
    fn integer(&mut self, what: &str) -> Result<i64, Problem> {
        let text = self.number()?;
        parse_integer(text).ok_or_else(|| wrong(text, what))
    }

    #[inline]
    fn narrow<T: TryFrom<i64>>(&mut self, what: &str) -> Result<T, Problem> {
        let text = self.number()?;
        parse_integer(text)
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| wrong(text, what))
    }

    /// Passes over one value of any kind, checking that it is JSON.
    fn skip_value(&mut self, depth: usize) -> CellResult {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'{') => {
                let depth = deeper(depth)?;
                self.skip_members(b'}', |cursor| {
                    if cursor.peek() != Some(b'"') {
                        return Err(cursor.unexpected("`\"`"));
                    }
                    cursor.skip_string()?;
                    cursor.skip_blanks();
                    cursor.expect(b':')?;
                    cursor.skip_blanks();
                    cursor.skip_value(depth)
                })
            }
            Some(b'[') => {
                let depth = deeper(depth)?;
                self.skip_members(b']', |cursor| cursor.skip_value(depth))
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    fn skip_members(&mut self, close: u8, mut member: impl FnMut(&mut Self) -> CellResult) -> CellResult {
        self.at += 1;
        self.skip_blanks();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_blanks();
            member(self)?;
            self.skip_blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.unexpected(&format!("`,` or `{}`", char::from(close)))),
            }
        }
    }

    #[inline]
    fn skip_string(&mut self) -> CellResult {
        let end = self.special(self.at + 1);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(());
        }
        self.string_into(&mut Vec::new())
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
pub mod tests;
