//! Decoding of JSON records to columns, in one pass.
//!
//! The parser knows the type of each column and so builds no tree: it parses a record once and writes every value
//! directly into its column. Fields without a column are checked for valid JSON and skipped. Objects usually have their
//! fields in the same order, so that a field's column is found by one comparison (see [`FieldOrder`]).
//!
//! Values are converted as in Flink: quoted numbers are numbers; numbers, booleans and whole objects are text for a
//! STRING column; timestamps are in SQL or ISO format, or a number of units since the epoch. Of several fields with one
//! name the last counts. Invalid JSON, a number out of the range of its column and a missing NOT NULL column reject the
//! record.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use arrow_schema::SchemaRef;

use super::cursor::{Cursor, deeper};
use crate::format::column_builder::{BatchBuilder, ColumnBuilder, Values};
use crate::format::field_order::FieldOrder;
use crate::format::field_tracker::FieldTracker;
use crate::format::numbers::parse_float;
use crate::format::parse_error::{CellResult, ParseError};
use crate::format::parse_error_counter::ParseErrorCounter;
use crate::format::record_decoder::{self, RecordParser};
use crate::format::{Decoded, Decoder, Records};
use crate::options::Options;
use crate::{Error, SourceFields};
use crate::{multiset, sql_type};

/// Decodes JSON records.
pub(crate) struct JsonDecoder {
    row: BatchBuilder,
    order: FieldOrder,
    settings: Settings,
    /// `None` outside of sources.
    tracker: Option<FieldTracker>,
}

struct Settings {
    /// `None` unless `json.ignore-parse-errors` is true.
    ignored_errors: Option<ParseErrorCounter>,
    fail_on_missing: bool,
    fail_on_unknown: bool,
    /// Unit of numeric timestamps as a fraction in microseconds.
    number_unit: (i64, i64),
}

impl JsonDecoder {
    /// Creates a decoder of the columns of `schema`, which reports the fields found to `fields`. `format` is the prefix
    /// of its options.
    pub(crate) fn new(
        schema: &SchemaRef,
        options: &Options<'_>,
        format: &str,
        fields: Option<&Arc<SourceFields>>,
    ) -> Result<Self, Error> {
        let order = FieldOrder::new(schema.fields().iter().map(|field| field.name().as_str()));
        let ignored_errors = ParseErrorCounter::new(options, &format!("{format}.ignore-parse-errors"))?;
        let fail_on_missing = options.boolean(&format!("{format}.fail-on-missing-field"))?;
        let fail_on_missing = fail_on_missing.unwrap_or(false);
        let fail_on_unknown = options.boolean(&format!("{format}.fail-on-unknown-field"))?;
        let fail_on_unknown = fail_on_unknown.unwrap_or(false);
        for (fails, option) in [(fail_on_missing, "missing"), (fail_on_unknown, "unknown")] {
            if ignored_errors.is_some() && fails {
                return Err(Error::Invalid(format!(
                    "table `{}`: '{format}.ignore-parse-errors' and '{format}.fail-on-{option}-field' cannot both be 'true'",
                    options.table()
                )));
            }
        }
        let number_unit = options.text(&format!("{format}.timestamp-format.number"));
        let number_unit = match number_unit.unwrap_or("ms") {
            "s" => (1_000_000, 1),
            "us" => (1, 1),
            "ns" => (1, 1_000),
            _ => (1_000, 1),
        };
        Ok(Self {
            tracker: fields.map(|fields| FieldTracker::new(fields.clone(), schema)),
            row: BatchBuilder::new(schema.clone())?,
            order,
            settings: Settings {
                ignored_errors,
                fail_on_missing,
                fail_on_unknown,
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
        let decoded = record_decoder::decode(self, records);
        if let Some(tracker) = &mut self.tracker {
            tracker.flush();
        }
        decoded
    }
}

impl RecordParser for JsonDecoder {
    fn row(&mut self) -> &mut BatchBuilder {
        &mut self.row
    }

    fn ignored_errors(&self) -> Option<&ParseErrorCounter> {
        self.settings.ignored_errors.as_ref()
    }

    fn record(&mut self, record: &[u8]) -> Result<bool, ParseError> {
        let mut cursor = Cursor { bytes: record, at: 0 };
        cursor.skip_whitespace();
        match cursor.peek() {
            None => return Ok(false),
            Some(b'{') => {}
            Some(_) => return Err(cursor.unexpected("a JSON object")),
        }
        let rows = self.row.rows;
        parse_object(
            &mut cursor,
            &mut self.row.columns,
            &mut self.order,
            rows,
            &self.settings,
            self.tracker.as_mut(),
            1,
        )?;
        cursor.skip_whitespace();
        if cursor.peek().is_some() {
            return Err(cursor.unexpected("the end of the record"));
        }
        Ok(true)
    }
}

/// Parses an object's fields into `columns`, each of which has `rows` cells before and `rows + 1` after.
fn parse_object(
    cursor: &mut Cursor<'_>,
    columns: &mut [ColumnBuilder],
    order: &mut FieldOrder,
    rows: usize,
    settings: &Settings,
    mut tracker: Option<&mut FieldTracker>,
    depth: usize,
) -> CellResult {
    cursor.at += 1;
    let mut filled = 0;
    let mut nth = 0;
    loop {
        cursor.skip_whitespace();
        let field = cursor.rest();
        let column = match order.expected(nth, field) {
            Some(expected) => {
                cursor.at += expected.length;
                if let (None, Some(tracker)) = (expected.column, &mut tracker) {
                    tracker.unknown(expected.name);
                }
                expected.column
            }
            None if nth == 0 && cursor.peek() == Some(b'}') => {
                cursor.at += 1;
                break;
            }
            None => {
                let name = cursor.string()?;
                let column = order.find(nth, &name);
                if let (None, Some(tracker)) = (column, &mut tracker) {
                    tracker.unknown(&name);
                }
                cursor.skip_whitespace();
                cursor.expect(b':')?;
                column
            }
        };
        cursor.skip_whitespace();
        match column.and_then(|index| columns.get_mut(index)) {
            Some(column) => {
                if column.len() > rows {
                    column.truncate(rows);
                } else {
                    filled += 1;
                }
                parse_field(cursor, column, rows, settings, depth)?;
            }
            None if settings.fail_on_unknown => return Err(unknown_field(field, columns)),
            None => cursor.skip_value(depth)?,
        }
        nth += 1;
        cursor.skip_whitespace();
        match cursor.next() {
            Some(b',') => {}
            Some(b'}') => break,
            _ => {
                cursor.at = cursor.at.saturating_sub(1);
                return Err(cursor.unexpected("`,` or `}`"));
            }
        }
    }
    if let Some(tracker) = tracker {
        tracker.record(columns, rows);
    }
    if filled < columns.len() {
        for column in columns.iter_mut().filter(|column| column.len() == rows) {
            if settings.fail_on_missing {
                return Err(ParseError::new("is missing").in_column(column.field.name()));
            }
            column
                .push_null()
                .map_err(|problem| problem.in_column(column.field.name()))?;
        }
    }
    Ok(())
}

/// Returns the error of a field that is no column. `field` begins with its name.
#[cold]
fn unknown_field(field: &[u8], columns: &[ColumnBuilder]) -> ParseError {
    let mut cursor = Cursor { bytes: field, at: 0 };
    let name = cursor
        .string()
        .map_or(String::new(), |name| String::from_utf8_lossy(&name).into_owned());
    let near = millstream_proto::spec::did_you_mean(&name, columns.iter().map(|column| column.field.name().as_str()));
    ParseError::new(format!("`{name}` is not a column{near}"))
}

/// Parses one field into the column's next cell, or NULL if parse errors are ignored.
#[inline]
fn parse_field(
    cursor: &mut Cursor<'_>,
    column: &mut ColumnBuilder,
    rows: usize,
    settings: &Settings,
    depth: usize,
) -> CellResult {
    let start = cursor.at;
    match parse_value(cursor, column, settings, depth) {
        Ok(()) => Ok(()),
        Err(problem) => match &settings.ignored_errors {
            Some(counter) => {
                counter.fields.increment(1);
                column.truncate(rows);
                cursor.at = start;
                cursor.skip_value(depth)?;
                column.push_null()
            }
            None => Err(problem.in_column(column.field.name())),
        },
    }
}

/// Parses one value into the column's next cell. The cursor is at its first byte.
#[inline]
fn parse_value(cursor: &mut Cursor<'_>, column: &mut ColumnBuilder, settings: &Settings, depth: usize) -> CellResult {
    let Some(first) = cursor.peek() else {
        return Err(cursor.unexpected("a value"));
    };
    if first == b'n' {
        cursor.literal(b"null")?;
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
            bytes.push(cursor.since(start));
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
        (Values::Timestamp(values, last_date), b'"') => {
            match last_date.timestamp(cursor.rest().get(1..).unwrap_or_default()) {
                Some((value, length)) => {
                    values.push(value);
                    cursor.at += length + 2;
                    Ok(())
                }
                None => {
                    let text = cursor.string()?;
                    column.push_text(&text)
                }
            }
        }
        (Values::Timestamp(values, _), b'-' | b'0'..=b'9') => {
            let number = cursor.integer("a TIMESTAMP in whole units since 1970-01-01")?;
            let (times, divided) = settings.number_unit;
            let value = number
                .checked_mul(times)
                .map(|us| us.div_euclid(divided))
                .filter(|us| in_years(*us));
            values.push(
                value.ok_or_else(|| {
                    ParseError::new(format!("{number} is not a TIMESTAMP between the years 1 and 9999"))
                })?,
            );
            Ok(())
        }
        (Values::Float64(values), b'-' | b'0'..=b'9') => {
            let text = cursor.number()?;
            let value: f64 = parse_float(text).ok_or_else(|| ParseError::expected(text, "a DOUBLE"))?;
            if value.is_infinite() {
                return Err(ParseError::expected(text, "within the range of a DOUBLE"));
            }
            values.push(value);
            Ok(())
        }
        (Values::Float32(values), b'-' | b'0'..=b'9') => {
            let text = cursor.number()?;
            let value: f32 = parse_float(text).ok_or_else(|| ParseError::expected(text, "a FLOAT"))?;
            if value.is_infinite() {
                return Err(ParseError::expected(text, "within the range of a FLOAT"));
            }
            values.push(value);
            Ok(())
        }
        (Values::Decimal { .. } | Values::Months(_) | Values::Microseconds(_), b'-' | b'0'..=b'9') => {
            let text = cursor.number()?;
            column.push_text(text)
        }
        (Values::Boolean(values), b't') => {
            cursor.literal(b"true")?;
            values.push(true);
            Ok(())
        }
        (Values::Boolean(values), b'f') => {
            cursor.literal(b"false")?;
            values.push(false);
            Ok(())
        }
        (Values::Struct { children, rows, order }, b'{') => {
            let depth = deeper(depth)?;
            let length = *rows;
            children.iter_mut().for_each(|child| child.complete(length));
            parse_object(cursor, children, order, length, settings, None, depth)?;
            *rows += 1;
            Ok(())
        }
        (Values::List { ends, child }, b'[') => {
            parse_array(cursor, child, settings, deeper(depth)?)?;
            ends.push(length_of(child)?);
            Ok(())
        }
        (Values::Map { ends, key, value }, b'{') => {
            let first = key.len();
            parse_entries(cursor, key, value, settings, deeper(depth)?)?;
            if multiset::element(column.field.data_type()).is_some() {
                check_counts(value, first)?;
            }
            ends.push(length_of(key)?);
            Ok(())
        }
        (Values::Struct { .. } | Values::List { .. } | Values::Map { .. }, _) => {
            let start = cursor.at;
            cursor.skip_value(depth)?;
            let text = cursor.since(start);
            Err(ParseError::expected(
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
            Err(ParseError::expected(
                cursor.since(start),
                &format!("a value for the type {}", sql_type::name(column.field.data_type())),
            ))
        }
    }
}

fn parse_array(cursor: &mut Cursor<'_>, child: &mut ColumnBuilder, settings: &Settings, depth: usize) -> CellResult {
    cursor.at += 1;
    cursor.skip_whitespace();
    if cursor.peek() == Some(b']') {
        cursor.at += 1;
        return Ok(());
    }
    loop {
        cursor.skip_whitespace();
        parse_value(cursor, child, settings, depth)?;
        cursor.skip_whitespace();
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

fn parse_entries(
    cursor: &mut Cursor<'_>,
    key: &mut ColumnBuilder,
    value_column: &mut ColumnBuilder,
    settings: &Settings,
    depth: usize,
) -> CellResult {
    cursor.at += 1;
    cursor.skip_whitespace();
    if cursor.peek() == Some(b'}') {
        cursor.at += 1;
        return Ok(());
    }
    loop {
        cursor.skip_whitespace();
        let name = cursor.string()?;
        key.push_text(&name)?;
        cursor.skip_whitespace();
        cursor.expect(b':')?;
        cursor.skip_whitespace();
        parse_value(cursor, value_column, settings, depth)?;
        cursor.skip_whitespace();
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

/// Checks the numbers of occurrences of a multiset's elements, which begin at `first`.
fn check_counts(counts: &ColumnBuilder, first: usize) -> CellResult {
    let Values::Int32(counts) = &counts.values else {
        return Ok(());
    };
    let counts = counts.get(first..).unwrap_or_default();
    let total: i64 = counts.iter().map(|count| i64::from(*count)).sum();
    match counts.iter().find(|count| **count < 1) {
        Some(count) => Err(ParseError::new(format!(
            "has an element {count} times; a MULTISET has each at least once"
        ))),
        None if total > i64::from(i32::MAX) => Err(ParseError::new("has more than 2,147,483,647 elements")),
        None => Ok(()),
    }
}

fn length_of(column: &ColumnBuilder) -> Result<i32, ParseError> {
    i32::try_from(column.len()).map_err(|_| ParseError::new("too many elements for one batch"))
}

fn in_years(timestamp_us: i64) -> bool {
    (-62_135_596_800_000_000..253_402_300_800_000_000).contains(&timestamp_us)
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
