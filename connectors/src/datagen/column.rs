//! The generator of one column, whose values are functions of the row's number.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, FieldRef, TimeUnit};

use crate::clock::now_us;
use crate::options::Options;
use crate::{Error, TableDefinition, sql_type};

/// Characters of random strings: lower-case hexadecimal, as in Flink.
const DIGITS: &[u8; 16] = b"0123456789abcdef";
const LENGTH_MAX: u64 = 1 << 20;
/// Distinguishes the random numbers of lengths from those of characters.
const VARIABLE_LENGTH: u64 = 0x9e37_79b9_7f4a_7c15;

pub(super) struct Column {
    data_type: DataType,
    kind: Kind,
    /// Seed of the column, which differs between the columns of a table.
    salt: u64,
    /// Share of NULLs, as a bound on 32 random bits; 0 for none.
    null_below: u64,
}

enum Kind {
    Sequence {
        start: i64,
        end: i64,
    },
    Integer {
        min: i64,
        max: i64,
    },
    Real {
        min: f64,
        max: f64,
    },
    Text {
        length: usize,
        /// True if texts are shorter, too.
        is_variable: bool,
    },
    Boolean,
    /// The time of the clock minus a random duration.
    Clock {
        max_past_us: i64,
    },
}

impl Column {
    /// Creates the generator of a column from the table's options.
    pub(super) fn new(table: &TableDefinition, field: &FieldRef) -> Result<Self, Error> {
        let options = Options::of(table);
        let name = |part: &str| format!("fields.{}.{part}", field.name());
        let integer = |part: &str| options.integer(&name(part));
        let data_type = field.data_type().clone();
        let range = integers_of(&data_type);
        let kind = match options.text(&name("kind")).unwrap_or("random") {
            "sequence" => {
                let (Some(start), Some(end)) = (integer("start")?, integer("end")?) else {
                    return Err(wrong(table, field, "a sequence needs `.start` and `.end`"));
                };
                let Some((low, high)) = range.or(text_or_real(&data_type)) else {
                    return Err(wrong(
                        table,
                        field,
                        &format!(
                            "a sequence of {} is not offered; use a number or text",
                            sql_type::name(&data_type)
                        ),
                    ));
                };
                if start > end || start < low || end > high {
                    return Err(wrong(
                        table,
                        field,
                        &format!(
                            "the sequence {start}..={end} does not fit {}",
                            sql_type::name(&data_type)
                        ),
                    ));
                }
                Kind::Sequence { start, end }
            }
            "random" => match &data_type {
                DataType::Float32 | DataType::Float64 => {
                    let (min, max) = (
                        options.float(&name("min"))?.unwrap_or(0.0),
                        options.float(&name("max"))?.unwrap_or(1.0),
                    );
                    if min.partial_cmp(&max).is_none_or(|order| order.is_gt()) {
                        return Err(wrong(table, field, &format!("`.min` {min} is above `.max` {max}")));
                    }
                    Kind::Real { min, max }
                }
                DataType::Utf8 | DataType::Binary => {
                    let length = options.count(&name("length"))?.unwrap_or(100);
                    if length > LENGTH_MAX {
                        return Err(wrong(
                            table,
                            field,
                            &format!("`.length` {length} is above {LENGTH_MAX}"),
                        ));
                    }
                    Kind::Text {
                        length: length as usize,
                        is_variable: options.boolean(&name("var-len"))?.unwrap_or(false),
                    }
                }
                DataType::Boolean => Kind::Boolean,
                DataType::Timestamp(TimeUnit::Microsecond, _) => {
                    let past = options.duration(&name("max-past"))?.unwrap_or_default();
                    Kind::Clock {
                        max_past_us: i64::try_from(past.as_micros()).unwrap_or(i64::MAX),
                    }
                }
                other => {
                    let Some((low, high)) = range else {
                        return Err(wrong(
                            table,
                            field,
                            &format!("random values of {} are not offered", sql_type::name(other)),
                        ));
                    };
                    let (min, max) = (integer("min")?.unwrap_or(low), integer("max")?.unwrap_or(high));
                    if min > max || min < low || max > high {
                        return Err(wrong(
                            table,
                            field,
                            &format!("{min}..={max} does not fit {}", sql_type::name(other)),
                        ));
                    }
                    Kind::Integer { min, max }
                }
            },
            other => {
                return Err(wrong(
                    table,
                    field,
                    &format!("`.kind` is `{other}`; it is random or sequence"),
                ));
            }
        };
        let null_rate = options.float(&name("null-rate"))?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&null_rate) {
            return Err(wrong(
                table,
                field,
                &format!("`.null-rate` is {null_rate}; it is between 0 and 1"),
            ));
        }
        let salt = field.name().bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Ok(Self {
            data_type,
            kind,
            salt,
            null_below: (null_rate * (1u64 << 32) as f64) as u64,
        })
    }

    /// Returns the number of rows until the column's sequence ends.
    pub(super) fn length(&self) -> Option<u64> {
        match self.kind {
            Kind::Sequence { start, end } => Some(end.wrapping_sub(start) as u64).map(|span| span.saturating_add(1)),
            _ => None,
        }
    }

    /// Generates the values of `rows` consecutive rows from `first`.
    pub(super) fn values(&self, seed: u64, first: u64, rows: usize) -> ArrayRef {
        let now_us = now_us();
        let numbers = first..first + rows as u64;
        let present = |n: u64| self.null_below == 0 || draw(seed ^ !self.salt, n) >> 32 >= self.null_below;
        let integers = numbers
            .clone()
            .map(|n| present(n).then(|| self.integer(seed, n, now_us)));
        match &self.data_type {
            DataType::Int8 => Arc::new(integers.map(|v| v.map(|v| v as i8)).collect::<Int8Array>()),
            DataType::Int16 => Arc::new(integers.map(|v| v.map(|v| v as i16)).collect::<Int16Array>()),
            DataType::Int32 => Arc::new(integers.map(|v| v.map(|v| v as i32)).collect::<Int32Array>()),
            DataType::Date32 => Arc::new(integers.map(|v| v.map(|v| v as i32)).collect::<Date32Array>()),
            DataType::Boolean => Arc::new(integers.map(|v| v.map(|v| v != 0)).collect::<BooleanArray>()),
            DataType::Timestamp(_, zone) => Arc::new(
                integers
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone_opt(zone.clone()),
            ),
            DataType::Decimal128(..) => {
                let values: Decimal128Array = integers.map(|v| v.map(i128::from)).collect();
                Arc::new(values.with_data_type(self.data_type.clone()))
            }
            DataType::Float32 => Arc::new(
                numbers
                    .map(|n| present(n).then(|| self.real(seed, n) as f32))
                    .collect::<Float32Array>(),
            ),
            DataType::Float64 => Arc::new(
                numbers
                    .map(|n| present(n).then(|| self.real(seed, n)))
                    .collect::<Float64Array>(),
            ),
            DataType::Utf8 => {
                let (mut builder, mut text) = (StringBuilder::with_capacity(rows, rows * self.width()), String::new());
                for n in numbers {
                    text.clear();
                    self.text(seed, n, &mut text);
                    builder.append_option(present(n).then_some(&text));
                }
                Arc::new(builder.finish())
            }
            DataType::Binary => {
                let (mut builder, mut text) = (BinaryBuilder::with_capacity(rows, rows * self.width()), String::new());
                for n in numbers {
                    text.clear();
                    self.text(seed, n, &mut text);
                    builder.append_option(present(n).then_some(&text));
                }
                Arc::new(builder.finish())
            }
            // `new` refuses all other types.
            _ if self.null_below == 0 => Arc::new(Int64Array::from_iter_values(
                numbers.map(|n| self.integer(seed, n, now_us)),
            )),
            _ => Arc::new(integers.collect::<Int64Array>()),
        }
    }

    fn integer(&self, seed: u64, n: u64, now_us: i64) -> i64 {
        let random = draw(seed ^ self.salt, n);
        match self.kind {
            Kind::Sequence { start, .. } => start.wrapping_add(n as i64),
            Kind::Integer { min, max } => between(min, max, random),
            Kind::Clock { max_past_us } => now_us - between(0, max_past_us, random),
            Kind::Boolean => (random & 1) as i64,
            Kind::Real { .. } | Kind::Text { .. } => random as i64,
        }
    }

    fn real(&self, seed: u64, n: u64) -> f64 {
        match self.kind {
            Kind::Real { min, max } => {
                min + (max - min) * (draw(seed ^ self.salt, n) >> 11) as f64 / (1u64 << 53) as f64
            }
            _ => self.integer(seed, n, 0) as f64,
        }
    }

    fn text(&self, seed: u64, n: u64, text: &mut String) {
        let Kind::Text { length, is_variable } = self.kind else {
            text.push_str(&self.integer(seed, n, 0).to_string());
            return;
        };
        let length = match is_variable && length > 0 {
            true => between(1, length as i64, draw(seed ^ self.salt ^ VARIABLE_LENGTH, n)) as usize,
            false => length,
        };
        for block in 0..length.div_ceil(16) {
            let mut random = draw(seed ^ self.salt ^ (block as u64) << 48, n);
            for _ in 0..(length - 16 * block).min(16) {
                text.push(DIGITS[(random & 15) as usize].into());
                random >>= 4;
            }
        }
    }

    fn width(&self) -> usize {
        match self.kind {
            Kind::Text { length, .. } => length,
            _ => 20,
        }
    }
}

/// Returns a number evenly distributed over `min..=max`.
fn between(min: i64, max: i64, random: u64) -> i64 {
    let span = max.wrapping_sub(min) as u64;
    match span.checked_add(1) {
        None => random as i64,
        Some(values) => min.wrapping_add(((u128::from(random) * u128::from(values)) >> 64) as i64),
    }
}

/// Returns value `n` of the stream `seed`: SplitMix64 of a counter.
fn draw(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add((n.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns the range of whole numbers of a type; decimals are counted in their smallest unit.
fn integers_of(data_type: &DataType) -> Option<(i64, i64)> {
    match data_type {
        DataType::Int8 => Some((i8::MIN.into(), i8::MAX.into())),
        DataType::Int16 => Some((i16::MIN.into(), i16::MAX.into())),
        DataType::Int32 => Some((i32::MIN.into(), i32::MAX.into())),
        DataType::Int64 => Some((i64::MIN, i64::MAX)),
        DataType::Date32 => Some((-719_162, 2_932_896)),
        DataType::Decimal128(precision, _) => {
            let limit = 10i64
                .checked_pow((*precision).into())
                .map_or(i64::MAX, |power| power - 1);
            Some((-limit, limit))
        }
        _ => None,
    }
}

/// Sequences may also be written as text or as floating-point numbers.
fn text_or_real(data_type: &DataType) -> Option<(i64, i64)> {
    let fits = matches!(data_type, DataType::Utf8 | DataType::Float32 | DataType::Float64);
    fits.then_some((i64::MIN, i64::MAX))
}

fn wrong(table: &TableDefinition, field: &FieldRef, what: &str) -> Error {
    Error::Invalid(format!("table `{}`, column `{}`: {what}", table.name, field.name()))
}
