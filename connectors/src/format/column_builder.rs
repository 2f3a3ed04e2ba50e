//! Builders of columns and batches, shared by the decoders of all record formats.
//!
//! A record is decoded field by field, directly into its columns. When a field in the middle of a record cannot be
//! parsed, [`ColumnBuilder::truncate`] removes the cells of the fields before it, so that a malformed record does not
//! affect the others.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, ArrowTimestampType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalYearMonthType, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
    StringArray, StructArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, FieldRef, Fields, IntervalUnit, SchemaRef, TimeUnit};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::field_order::FieldOrder;
use super::null_ranges::NullRanges;
use super::numbers::{is_out_of_range, parse_decimal, parse_float, parse_integer};
use super::parse_error::{CellResult, ParseError};
use super::{map_keys, time};
use crate::{Error, interval, sql_type};

/// A column under construction.
pub(super) struct ColumnBuilder {
    /// Name and type of the column.
    pub field: FieldRef,
    nulls: NullRanges,
    /// The cells.
    pub values: Values,
}

/// The cells of a column; NULL cells hold a default.
pub(super) enum Values {
    Boolean(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Utf8(Bytes),
    Binary(Bytes),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    Date(Vec<i32>),
    /// Microseconds since midnight, until finished.
    Time(Vec<i64>),
    /// Microseconds since the epoch, until finished.
    Timestamp(Vec<i64>, time::LastDate),
    /// Intervals of months.
    Months(Vec<i32>),
    /// Intervals of microseconds.
    Microseconds(Vec<i64>),
    Struct {
        /// They may lack their last cells, which [`ColumnBuilder::complete`] appends before the next object.
        children: Vec<ColumnBuilder>,
        rows: usize,
        order: FieldOrder,
    },
    List {
        ends: Vec<i32>,
        child: Box<ColumnBuilder>,
    },
    Map {
        ends: Vec<i32>,
        key: Box<ColumnBuilder>,
        value: Box<ColumnBuilder>,
    },
}

/// Cells of varying length.
#[derive(Default)]
pub(super) struct Bytes {
    pub data: Vec<u8>,
    ends: Vec<i32>,
}

impl Bytes {
    pub(super) fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.finish_cell();
    }

    /// Ends the cell that consists of the bytes appended to `data` since the last cell.
    pub(super) fn finish_cell(&mut self) {
        let end = i32::try_from(self.data.len());
        self.ends
            .push(end.expect("records of one call are below 2 GiB, and no cell is longer than its record"));
    }

    fn fill(&mut self, rows: usize) {
        self.ends.resize(rows, self.ends.last().copied().unwrap_or(0));
    }

    /// Removes the bytes appended to `data` since the last cell.
    pub(super) fn discard_cell(&mut self) {
        self.data.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.discard_cell();
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let (rows, bytes) = (self.ends.len(), self.data.len());
        let offsets = offsets(std::mem::replace(&mut self.ends, Vec::with_capacity(rows)));
        (
            offsets,
            Buffer::from(std::mem::replace(&mut self.data, Vec::with_capacity(bytes))),
        )
    }
}

impl ColumnBuilder {
    pub(super) fn new(field: &FieldRef) -> Result<Self, Error> {
        let values = match field.data_type() {
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Utf8 => Values::Utf8(Bytes::default()),
            DataType::Binary => Values::Binary(Bytes::default()),
            DataType::Decimal128(precision, scale) => Values::Decimal {
                values: Vec::new(),
                precision: *precision,
                scale: *scale,
            },
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Time32(_) | DataType::Time64(_) => Values::Time(Vec::new()),
            DataType::Timestamp(_, _) => Values::Timestamp(Vec::new(), time::LastDate::default()),
            DataType::Interval(IntervalUnit::YearMonth) => Values::Months(Vec::new()),
            DataType::Duration(TimeUnit::Microsecond) => Values::Microseconds(Vec::new()),
            DataType::Struct(fields) => Values::Struct {
                children: fields.iter().map(ColumnBuilder::new).collect::<Result<_, _>>()?,
                rows: 0,
                order: FieldOrder::new(fields.iter().map(|field| field.name().as_str())),
            },
            DataType::List(child) => Values::List {
                ends: Vec::new(),
                child: Box::new(ColumnBuilder::new(child)?),
            },
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(unsupported(field));
                };
                let [key, value] = &fields[..] else {
                    return Err(unsupported(field));
                };
                Values::Map {
                    ends: Vec::new(),
                    key: Box::new(ColumnBuilder::new(key)?),
                    value: Box::new(ColumnBuilder::new(value)?),
                }
            }
            _ => return Err(unsupported(field)),
        };
        Ok(Self {
            field: field.clone(),
            nulls: NullRanges::default(),
            values,
        })
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Boolean(values) => values.len(),
            Values::Int8(values) => values.len(),
            Values::Int16(values) => values.len(),
            Values::Int32(values) | Values::Date(values) | Values::Months(values) => values.len(),
            Values::Int64(values)
            | Values::Time(values)
            | Values::Timestamp(values, _)
            | Values::Microseconds(values) => values.len(),
            Values::Float32(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::Utf8(bytes) | Values::Binary(bytes) => bytes.ends.len(),
            Values::Decimal { values, .. } => values.len(),
            Values::Struct { rows, .. } => *rows,
            Values::List { ends, .. } | Values::Map { ends, .. } => ends.len(),
        }
    }

    /// Removes all cells from `rows` on, and the cell in progress.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.nulls.truncate(rows);
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Int8(values) => values.truncate(rows),
            Values::Int16(values) => values.truncate(rows),
            Values::Int32(values) | Values::Date(values) | Values::Months(values) => values.truncate(rows),
            Values::Int64(values)
            | Values::Time(values)
            | Values::Timestamp(values, _)
            | Values::Microseconds(values) => values.truncate(rows),
            Values::Float32(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Utf8(bytes) | Values::Binary(bytes) => bytes.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
            Values::Struct {
                children, rows: length, ..
            } => {
                for child in children {
                    child.truncate(rows);
                }
                *length = (*length).min(rows);
            }
            Values::List { ends, child } => {
                ends.truncate(rows);
                child.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Values::Map { ends, key, value } => {
                ends.truncate(rows);
                let entries = ends.last().map_or(0, |end| *end as usize);
                key.truncate(entries);
                value.truncate(entries);
            }
        }
    }

    /// Appends NULL; an error if the column is NOT NULL.
    pub(super) fn push_null(&mut self) -> CellResult {
        if !self.field.is_nullable() {
            return Err(ParseError::new("is NOT NULL, but the record has no value for it"));
        }
        self.push_default(true);
        Ok(())
    }

    /// Appends a default of the type, which is NULL if `null` is true.
    #[inline]
    pub(super) fn push_default(&mut self, null: bool) {
        let rows = self.len();
        if null {
            self.nulls.push(rows, rows + 1);
        }
        self.fill(rows + 1);
    }

    /// Appends defaults of the type until there are `rows` cells. Those of an object's fields are appended later.
    fn fill(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.resize(rows, false),
            Values::Int8(values) => values.resize(rows, 0),
            Values::Int16(values) => values.resize(rows, 0),
            Values::Int32(values) | Values::Date(values) | Values::Months(values) => values.resize(rows, 0),
            Values::Int64(values)
            | Values::Time(values)
            | Values::Timestamp(values, _)
            | Values::Microseconds(values) => values.resize(rows, 0),
            Values::Float32(values) => values.resize(rows, 0.0),
            Values::Float64(values) => values.resize(rows, 0.0),
            Values::Utf8(bytes) | Values::Binary(bytes) => bytes.fill(rows),
            Values::Decimal { values, .. } => values.resize(rows, 0),
            Values::Struct { rows: length, .. } => *length = rows,
            Values::List { ends, .. } | Values::Map { ends, .. } => {
                ends.resize(rows, ends.last().copied().unwrap_or(0));
            }
        }
    }

    /// Appends cells until there are `rows`: NULL, or a default if the column is NOT NULL.
    #[inline]
    pub(super) fn complete(&mut self, rows: usize) {
        let length = self.len();
        if length < rows {
            if self.field.is_nullable() {
                self.nulls.push(length, rows);
            }
            self.fill(rows);
        }
    }

    /// Parses `text` (valid UTF-8) and appends the value, for every type that is not nested.
    pub(super) fn push_text(&mut self, text: &[u8]) -> CellResult {
        match &mut self.values {
            Values::Utf8(bytes) => bytes.push(text),
            Values::Boolean(values) => values.push(match text.trim_ascii() {
                word if word.eq_ignore_ascii_case(b"true") => true,
                word if word.eq_ignore_ascii_case(b"false") => false,
                _ => return Err(ParseError::expected(text, "a BOOLEAN")),
            }),
            Values::Int8(values) => values.push(narrow(text, "a TINYINT")?),
            Values::Int16(values) => values.push(narrow(text, "a SMALLINT")?),
            Values::Int32(values) => values.push(narrow(text, "an INT")?),
            Values::Int64(values) => values.push(narrow(text, "a BIGINT")?),
            Values::Float32(values) => {
                let value: f32 = parse_float(text).ok_or_else(|| ParseError::expected(text, "a FLOAT"))?;
                if is_out_of_range(text, value.is_infinite()) {
                    return Err(ParseError::expected(text, "within the range of a FLOAT"));
                }
                values.push(value);
            }
            Values::Float64(values) => {
                let value: f64 = parse_float(text).ok_or_else(|| ParseError::expected(text, "a DOUBLE"))?;
                if is_out_of_range(text, value.is_infinite()) {
                    return Err(ParseError::expected(text, "within the range of a DOUBLE"));
                }
                values.push(value);
            }
            Values::Decimal {
                values,
                precision,
                scale,
            } => {
                let value = parse_decimal(text.trim_ascii(), *precision, *scale)
                    .ok_or_else(|| ParseError::expected(text, &format!("a DECIMAL({precision}, {scale})")))?;
                values.push(value);
            }
            Values::Date(values) => {
                values.push(
                    time::parse_date(text.trim_ascii())
                        .ok_or_else(|| ParseError::expected(text, "a DATE like `2024-12-31`"))?,
                );
            }
            Values::Time(values) => {
                values.push(
                    time::parse_time(text.trim_ascii())
                        .ok_or_else(|| ParseError::expected(text, "a TIME like `23:59:59`"))?,
                );
            }
            Values::Timestamp(values, _) => {
                let value = time::parse_timestamp(text.trim_ascii())
                    .ok_or_else(|| ParseError::expected(text, "a TIMESTAMP like `2024-12-31 23:59:59.123`"))?;
                values.push(value);
            }
            Values::Months(values) => values.push(interval::read_months(text).ok_or_else(|| {
                ParseError::expected(
                    text,
                    "an INTERVAL: a number of months, or years and months like `+1-06`",
                )
            })?),
            Values::Microseconds(values) => values.push(interval::read_microseconds(text).ok_or_else(|| {
                let form = "an INTERVAL: a number of milliseconds, or days and a time like `+12 03:04:05.678`";
                ParseError::expected(text, form)
            })?),
            Values::Binary(bytes) => decode_base64(text, bytes)?,
            Values::Struct { .. } | Values::List { .. } | Values::Map { .. } => {
                return Err(ParseError::expected(
                    text,
                    &format!("a value of type {}", sql_type::name(self.field.data_type())),
                ));
            }
        }
        Ok(())
    }

    /// Returns the array of all cells, and empties the builder but not its capacity.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, Error> {
        let rows = self.len();
        let nulls = self.nulls.finish(rows);
        let array: ArrayRef = match &mut self.values {
            Values::Boolean(values) => {
                let array = BooleanArray::new(BooleanBuffer::from(values.as_slice()), nulls);
                values.clear();
                Arc::new(array)
            }
            Values::Int8(values) => primitive::<Int8Type>(values, nulls),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls),
            Values::Int64(values) => primitive::<Int64Type>(values, nulls),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls),
            Values::Utf8(bytes) => {
                let (offsets, data) = bytes.take();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Values::Binary(bytes) => {
                let (offsets, data) = bytes.take();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Values::Decimal {
                values,
                precision,
                scale,
            } => {
                let array = PrimitiveArray::<Decimal128Type>::new(take_with_capacity(values).into(), nulls);
                Arc::new(array.with_precision_and_scale(*precision, *scale)?)
            }
            Values::Date(values) => primitive::<Date32Type>(values, nulls),
            Values::Time(values) => finish_time(self.field.data_type(), values, nulls),
            Values::Timestamp(values, _) => finish_timestamp(self.field.data_type(), values, nulls),
            Values::Months(values) => primitive::<IntervalYearMonthType>(values, nulls),
            Values::Microseconds(values) => primitive::<DurationMicrosecondType>(values, nulls),
            Values::Struct { children, rows, .. } => {
                let finish = |child: &mut ColumnBuilder| {
                    child.complete(*rows);
                    child.finish()
                };
                let arrays = children.iter_mut().map(finish).collect::<Result<Vec<_>, _>>()?;
                let fields: Fields = children.iter().map(|child| child.field.clone()).collect();
                let length = std::mem::take(rows);
                Arc::new(StructArray::try_new_with_length(fields, arrays, nulls, length)?)
            }
            Values::List { ends, child } => {
                let offsets = offsets(std::mem::take(ends));
                Arc::new(ListArray::try_new(
                    child.field.clone(),
                    offsets,
                    child.finish()?,
                    nulls,
                )?)
            }
            Values::Map { ends, key, value } => {
                let DataType::Map(entries, ordered) = self.field.data_type() else {
                    return Err(unsupported(&self.field));
                };
                let offsets = offsets(std::mem::take(ends));
                let fields: Fields = [key.field.clone(), value.field.clone()].into_iter().collect();
                let pairs = StructArray::try_new(fields, vec![key.finish()?, value.finish()?], None)?;
                let maps = MapArray::try_new(entries.clone(), offsets, pairs, nulls, *ordered)?;
                Arc::new(map_keys::last_of_each(maps)?)
            }
        };
        Ok(array)
    }
}

/// A batch under construction: all columns of the records.
pub(super) struct BatchBuilder {
    /// The columns.
    pub columns: Vec<ColumnBuilder>,
    schema: SchemaRef,
    /// Number of complete rows. A column that is longer has a cell of the row in progress.
    pub rows: usize,
}

impl BatchBuilder {
    pub(super) fn new(schema: SchemaRef) -> Result<Self, Error> {
        let columns = schema
            .fields()
            .iter()
            .map(ColumnBuilder::new)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            columns,
            schema,
            rows: 0,
        })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Removes the cells of the row in progress.
    pub(super) fn discard_row(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
    }

    /// Returns the batch of all complete rows, and empties the builder.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, Error> {
        let arrays = self
            .columns
            .iter_mut()
            .map(ColumnBuilder::finish)
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            arrays,
            &options,
        )?)
    }
}

fn unsupported(field: &Field) -> Error {
    Error::Invalid(format!(
        "column `{}`: the type {} cannot be read from or written to text",
        field.name(),
        sql_type::name(field.data_type())
    ))
}

fn narrow<T: TryFrom<i64>>(text: &[u8], what: &str) -> Result<T, ParseError> {
    parse_integer(text.trim_ascii())
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| ParseError::expected(text, what))
}

/// Decodes base64 in either alphabet, with or without padding.
fn decode_base64(text: &[u8], out: &mut Bytes) -> CellResult {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    let digits = text.trim_ascii();
    let engine = match digits.iter().any(|digit| matches!(digit, b'-' | b'_')) {
        true => &URL_SAFE,
        false => &STANDARD,
    };
    if engine.decode_vec(digits, &mut out.data).is_err() {
        out.discard_cell();
        return Err(ParseError::expected(text, "binary data in base64"));
    }
    out.finish_cell();
    Ok(())
}

fn take_with_capacity<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    std::mem::replace(values, Vec::with_capacity(capacity))
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(
        ScalarBuffer::from(take_with_capacity(values)),
        nulls,
    ))
}

fn finish_time(data_type: &DataType, values: &mut Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    let narrow = |values: &mut Vec<i64>, divisor: i64| {
        let times = values.drain(..).map(|us| i32::try_from(us / divisor));
        times
            .map(|time| time.expect("a day has fewer than 2^31 ms"))
            .collect::<Vec<_>>()
    };
    match data_type {
        DataType::Time32(TimeUnit::Second) => primitive::<Time32SecondType>(&mut narrow(values, 1_000_000), nulls),
        DataType::Time32(_) => primitive::<Time32MillisecondType>(&mut narrow(values, 1_000), nulls),
        DataType::Time64(TimeUnit::Nanosecond) => {
            values.iter_mut().for_each(|us| *us *= 1_000);
            primitive::<Time64NanosecondType>(values, nulls)
        }
        _ => primitive::<Time64MicrosecondType>(values, nulls),
    }
}

fn finish_timestamp(data_type: &DataType, values: &mut Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    fn with_zone<T: ArrowTimestampType>(
        values: &mut Vec<i64>,
        nulls: Option<NullBuffer>,
        zone: Option<Arc<str>>,
    ) -> ArrayRef {
        Arc::new(
            PrimitiveArray::<T>::new(ScalarBuffer::from(take_with_capacity(values)), nulls).with_timezone_opt(zone),
        )
    }
    let DataType::Timestamp(unit, zone) = data_type else {
        return with_zone::<TimestampMicrosecondType>(values, nulls, None);
    };
    let zone = zone.clone();
    match unit {
        TimeUnit::Second => {
            values.iter_mut().for_each(|us| *us = us.div_euclid(1_000_000));
            with_zone::<TimestampSecondType>(values, nulls, zone)
        }
        TimeUnit::Millisecond => {
            values.iter_mut().for_each(|us| *us = us.div_euclid(1_000));
            with_zone::<TimestampMillisecondType>(values, nulls, zone)
        }
        TimeUnit::Microsecond => with_zone::<TimestampMicrosecondType>(values, nulls, zone),
        TimeUnit::Nanosecond => {
            values.iter_mut().for_each(|us| *us = us.saturating_mul(1_000));
            with_zone::<TimestampNanosecondType>(values, nulls, zone)
        }
    }
}

fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.extend_from_slice(&ends);
    OffsetBuffer::new(offsets.into())
}
