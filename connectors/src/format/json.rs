//! JSON records to columns, in one pass.
//!
//! The parser knows what each column wants, so it builds no tree: it walks a record once and writes every value
//! straight into its column. Fields that no column wants are checked for being JSON and dropped. Objects usually come
//! with their fields in the same order, so a field's column is found by one comparison (see [`FieldOrder`]).
//!
//! Values are taken as Flink takes them: numbers in quotes are numbers, numbers and booleans (and whole objects) are
//! text for a STRING column, timestamps may be written the SQL way or the ISO way, and a timestamp may be a number
//! since the epoch. A later field of the same name wins. What breaks JSON's grammar, a number that does not fit its
//! column and a missing NOT NULL column reject the record.
//!
//! [`FieldOrder`]: super::cells::FieldOrder

use std::sync::Arc;

use arrow_schema::SchemaRef;

use super::cells::{CellResult, Column, FieldOrder, Problem, Row, Values, wrong};
use super::field_tracker::FieldTracker;
use super::json_cursor::{Cursor, deeper};
use super::numbers::parse_float;
use super::parse_errors::ParseErrorCounter;
use super::record::{self, RecordParser};
use super::{Decoded, Decoder, Records};
use crate::options::Options;
use crate::{Error, SourceFields};

pub struct JsonDecoder {
    row: Row,
    order: FieldOrder,
    settings: Settings,
    /// `None` outside of sources.
    tracker: Option<FieldTracker>,
}

struct Settings {
    /// `None` unless `json.ignore-parse-errors` is true.
    ignored_errors: Option<ParseErrorCounter>,
    fail_on_missing: bool,
    /// Unit of numeric timestamps as a fraction in microseconds.
    number_unit: (i64, i64),
}

impl JsonDecoder {
    pub fn new(
        schema: &SchemaRef,
        columns: &[usize],
        options: &Options<'_>,
        fields: Option<&Arc<SourceFields>>,
    ) -> Result<Self, Error> {
        let schema = SchemaRef::new(schema.project(columns)?);
        let order = FieldOrder::new(schema.fields().iter().map(|field| field.name().as_str()));
        let ignored_errors = ParseErrorCounter::new(options, "json.ignore-parse-errors")?;
        let fail_on_missing = options.boolean("json.fail-on-missing-field")?.unwrap_or(false);
        if ignored_errors.is_some() && fail_on_missing {
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
            tracker: fields.map(|fields| FieldTracker::new(fields.clone(), &schema)),
            row: Row::new(schema)?,
            order,
            settings: Settings {
                ignored_errors,
                fail_on_missing,
                number_unit,
            },
        })
    }
}

impl Decoder for JsonDecoder {
    fn schema(&self) -> SchemaRef {
        self.row.schema().clone()
    }

    fn decode(&mut self, records: Records<'_>) -> Result<Decoded, Error> {
        let decoded = record::decode(self, records);
        if let Some(tracker) = &mut self.tracker {
            tracker.flush();
        }
        decoded
    }
}

impl RecordParser for JsonDecoder {
    fn row(&mut self) -> &mut Row {
        &mut self.row
    }

    fn ignored_errors(&self) -> Option<&ParseErrorCounter> {
        self.settings.ignored_errors.as_ref()
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
            self.tracker.as_mut(),
            1,
        )?;
        cursor.skip_blanks();
        if cursor.peek().is_some() {
            return Err(cursor.unexpected("the end of the record"));
        }
        Ok(true)
    }
}

/// Reads an object's fields into `columns`, each of which has `rows` cells before and `rows + 1` after.
fn object(
    cursor: &mut Cursor<'_>,
    columns: &mut [Column],
    order: &mut FieldOrder,
    rows: usize,
    settings: &Settings,
    mut tracker: Option<&mut FieldTracker>,
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
                None => {
                    if let Some(tracker) = &mut tracker {
                        tracker.unknown(&name);
                    }
                    cursor.skip_value(depth)?;
                }
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
    if let Some(tracker) = tracker {
        tracker.record(columns, rows);
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
        Err(problem) => match &settings.ignored_errors {
            Some(counter) => {
                counter.fields.increment(1);
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
            object(cursor, children, order, length, settings, None, depth)?;
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

fn in_years(timestamp_us: i64) -> bool {
    (-62_135_596_800_000_000..253_402_300_800_000_000).contains(&timestamp_us)
}

#[cfg(test)]
#[path = "json_tests.rs"]
pub mod tests;
