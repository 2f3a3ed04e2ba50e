//! Cells formatted as text, for the textual formats.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::time::{self, TimestampStyle};
use crate::{Error, interval};

/// The typed array of a column, resolved once per batch so that a cell costs one branch.
pub enum Cells<'a> {
    Boolean(&'a BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>, i8),
    Date(&'a PrimitiveArray<Date32Type>),
    /// Microseconds since midnight.
    Time(Box<dyn Fn(usize) -> i64 + 'a>),
    /// Timestamps in a unit of the column's own.
    Timestamp {
        /// Times in that unit.
        values: &'a [i64],
        /// The unit as a fraction in microseconds.
        unit: (i64, i64),
        /// True for TIMESTAMP_LTZ.
        utc: bool,
    },
    /// Intervals of months.
    Months(&'a PrimitiveArray<IntervalYearMonthType>),
    /// Intervals of microseconds, which are written as milliseconds.
    Microseconds(&'a PrimitiveArray<DurationMicrosecondType>),
    Utf8(&'a StringArray),
    Binary(&'a BinaryArray),
    Struct(Vec<(String, TextColumn<'a>)>),
    List(&'a ListArray, Box<TextColumn<'a>>),
    Map(&'a MapArray, Box<TextColumn<'a>>, Box<TextColumn<'a>>),
}

/// A column whose cells are formatted as text.
pub struct TextColumn<'a> {
    /// The column.
    pub array: &'a ArrayRef,
    /// True if some cell is NULL.
    pub has_nulls: bool,
    /// The same column by type.
    pub cells: Cells<'a>,
}

impl<'a> TextColumn<'a> {
    /// Resolves the types of all columns of a batch.
    pub fn all(rows: &'a RecordBatch) -> Result<Vec<Self>, Error> {
        rows.columns().iter().map(Self::new).collect()
    }

    /// Resolves the type of a column.
    pub fn new(array: &'a ArrayRef) -> Result<Self, Error> {
        let cells = match array.data_type() {
            DataType::Boolean => Cells::Boolean(array.as_boolean()),
            DataType::Int8 => Cells::Int8(array.as_primitive()),
            DataType::Int16 => Cells::Int16(array.as_primitive()),
            DataType::Int32 => Cells::Int32(array.as_primitive()),
            DataType::Int64 => Cells::Int64(array.as_primitive()),
            DataType::Float32 => Cells::Float32(array.as_primitive()),
            DataType::Float64 => Cells::Float64(array.as_primitive()),
            DataType::Decimal128(_, scale) => Cells::Decimal(array.as_primitive(), *scale),
            DataType::Date32 => Cells::Date(array.as_primitive()),
            DataType::Time32(TimeUnit::Second) => {
                let values = array.as_primitive::<Time32SecondType>().values();
                Cells::Time(Box::new(|row| i64::from(values[row]) * 1_000_000))
            }
            DataType::Time32(_) => {
                let values = array.as_primitive::<Time32MillisecondType>().values();
                Cells::Time(Box::new(|row| i64::from(values[row]) * 1_000))
            }
            DataType::Time64(TimeUnit::Nanosecond) => {
                let values = array.as_primitive::<Time64NanosecondType>().values();
                Cells::Time(Box::new(|row| values[row] / 1_000))
            }
            DataType::Time64(_) => {
                let values = array.as_primitive::<Time64MicrosecondType>().values();
                Cells::Time(Box::new(|row| values[row]))
            }
            DataType::Timestamp(unit, zone) => {
                let (values, unit): (&[i64], _) = match unit {
                    TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().values(), (1_000_000, 1)),
                    TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().values(), (1_000, 1)),
                    TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().values(), (1, 1)),
                    TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().values(), (1, 1_000)),
                };
                Cells::Timestamp {
                    values,
                    unit,
                    utc: zone.is_some(),
                }
            }
            DataType::Interval(IntervalUnit::YearMonth) => Cells::Months(array.as_primitive()),
            DataType::Duration(TimeUnit::Microsecond) => Cells::Microseconds(array.as_primitive()),
            DataType::Utf8 => Cells::Utf8(array.as_string()),
            DataType::Binary => Cells::Binary(array.as_binary()),
            DataType::Struct(fields) => {
                let children = fields
                    .iter()
                    .zip(array.as_struct().columns())
                    .map(|(field, child)| Ok((field.name().clone(), TextColumn::new(child)?)))
                    .collect::<Result<_, Error>>()?;
                Cells::Struct(children)
            }
            DataType::List(_) => {
                let array = array.as_list::<i32>();
                Cells::List(array, Box::new(TextColumn::new(array.values())?))
            }
            DataType::Map(_, _) => {
                let array = array.as_map();
                let (keys, values) = (TextColumn::new(array.keys())?, TextColumn::new(array.values())?);
                Cells::Map(array, Box::new(keys), Box::new(values))
            }
            other => {
                return Err(Error::Invalid(format!(
                    "the type {other} cannot be written as text; CAST the column to STRING first"
                )));
            }
        };
        Ok(Self {
            array,
            has_nulls: array.null_count() > 0,
            cells,
        })
    }

    /// Returns true if a cell is NULL.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.has_nulls && self.array.is_null(row)
    }

    /// Appends a cell as text without quotes. Returns false for nested types, which have no such text.
    #[inline]
    pub fn write_plain(&self, row: usize, style: TimestampStyle, out: &mut Vec<u8>) -> bool {
        match &self.cells {
            Cells::Boolean(array) => out.extend_from_slice(if array.value(row) { b"true" } else { b"false" }),
            Cells::Int8(array) => write_integer(array.value(row).into(), out),
            Cells::Int16(array) => write_integer(array.value(row).into(), out),
            Cells::Int32(array) => write_integer(array.value(row).into(), out),
            Cells::Int64(array) => write_integer(array.value(row), out),
            Cells::Float32(array) => write_float32(array.value(row), out),
            Cells::Float64(array) => write_float64(array.value(row), out),
            Cells::Decimal(array, scale) => write_decimal(array.value(row), *scale, out),
            Cells::Date(array) => time::write_date(array.value(row).into(), out),
            Cells::Time(value) => time::write_time(value(row), out),
            Cells::Timestamp { values, unit, utc } => {
                let timestamp_us = values[row].saturating_mul(unit.0).div_euclid(unit.1);
                time::write_timestamp(timestamp_us, style, *utc, out);
            }
            Cells::Months(array) => write_integer(array.value(row).into(), out),
            Cells::Microseconds(array) => write_integer(interval::milliseconds(array.value(row)), out),
            Cells::Utf8(array) => out.extend_from_slice(array.value(row).as_bytes()),
            Cells::Binary(array) => write_base64(array.value(row), out),
            Cells::Struct(..) | Cells::List(..) | Cells::Map(..) => return false,
        }
        true
    }
}

/// Appends a number in decimal.
#[inline]
pub(super) fn write_integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_float64(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(ryu::Buffer::new().format(value).as_bytes());
}

fn write_float32(value: f32, out: &mut Vec<u8>) {
    out.extend_from_slice(ryu::Buffer::new().format(value).as_bytes());
}

fn write_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs()).as_bytes();
    if value < 0 {
        out.push(b'-');
    }
    let Ok(scale) = usize::try_from(scale) else {
        out.extend_from_slice(digits);
        if value != 0 {
            out.extend(std::iter::repeat_n(b'0', usize::from(scale.unsigned_abs())));
        }
        return;
    };
    if scale == 0 {
        out.extend_from_slice(digits);
    } else if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', scale - digits.len()));
        out.extend_from_slice(digits);
    }
}

fn write_base64(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let length = base64::encoded_len(value.len(), true).expect("a cell is below 2 GiB");
    out.resize(start + length, 0);
    let written = STANDARD.encode_slice(value, &mut out[start..]);
    debug_assert_eq!(written, Ok(length));
}
