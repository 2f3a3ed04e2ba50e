//! SQL values as JSON.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Date32Type, Decimal128Type, DecimalType, Float64Type, Int64Type};
use datafusion::arrow::datatypes::{TimeUnit, TimestampMicrosecondType};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use millstream_graph::sql_type;

use super::super::civil;
use super::write;

/// Checks that values of a type have a form in JSON.
pub(super) fn check(data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Null
        | DataType::Utf8
        | DataType::Boolean
        | DataType::Decimal128(..)
        | DataType::Binary
        | DataType::Date32
        | DataType::Timestamp(..) => Ok(()),
        number if number.is_integer() || number.is_floating() => Ok(()),
        DataType::List(element) => check(element.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check(field.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if *fields[0].data_type() == DataType::Utf8 => check(fields[1].data_type()),
            DataType::Struct(fields) => plan_err!(
                "takes a MAP with keys of STRING, not of {}: the names of a JSON object are strings",
                sql_type::name(fields[0].data_type())
            ),
            _ => plan_err!("takes other types than {}", sql_type::name(data_type)),
        },
        other => plan_err!(
            "has no JSON form for {}: CAST the value to STRING",
            sql_type::name(other)
        ),
    }
}

/// An array whose values are written as JSON.
pub(super) struct Values {
    nulls: Option<NullBuffer>,
    kind: Kind,
}

enum Kind {
    Null,
    Texts(StringArray),
    Booleans(BooleanArray),
    Integers(Int64Array),
    Doubles(Float64Array),
    Decimals(Decimal128Array),
    Bytes(BinaryArray),
    /// Days since 1970.
    Dates(Vec<i32>),
    /// Microseconds since 1970, and the text after a timestamp.
    Times(Vec<i64>, &'static str),
    Lists(Vec<i32>, Box<Values>),
    /// The fields in the order of their names.
    Rows(Vec<(String, Values)>),
    Maps(Vec<i32>, StringArray, Box<Values>),
}

impl Values {
    /// Takes an array of a [checked](check) type.
    pub(super) fn of(array: &ArrayRef) -> Result<Self> {
        let kind = match array.data_type() {
            DataType::Null => Kind::Null,
            DataType::Utf8 => Kind::Texts(array.as_string().clone()),
            DataType::Boolean => Kind::Booleans(array.as_boolean().clone()),
            DataType::Decimal128(..) => Kind::Decimals(array.as_primitive().clone()),
            DataType::Binary => Kind::Bytes(array.as_binary().clone()),
            DataType::Date32 => Kind::Dates(array.as_primitive::<Date32Type>().values().to_vec()),
            DataType::Timestamp(_, zone) => {
                let micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
                let times = micros.as_primitive::<TimestampMicrosecondType>().values().to_vec();
                Kind::Times(times, if zone.is_some() { "Z" } else { "" })
            }
            number if number.is_integer() => {
                Kind::Integers(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            number if number.is_floating() => {
                Kind::Doubles(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Kind::Lists(list.value_offsets().to_vec(), Box::new(Self::of(list.values())?))
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().zip(array.as_struct().columns());
                let mut columns = columns
                    .map(|(field, column)| Ok((field.name().clone(), Self::of(column)?)))
                    .collect::<Result<Vec<_>>>()?;
                columns.sort_by(|(left, _), (right, _)| write::name_order(left, right));
                Kind::Rows(columns)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let keys = map.keys().as_string::<i32>().clone();
                Kind::Maps(map.value_offsets().to_vec(), keys, Box::new(Self::of(map.values())?))
            }
            other => return plan_err!("has no JSON form for {}", sql_type::name(other)),
        };
        Ok(Self {
            nulls: array.nulls().cloned(),
            kind,
        })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends the value of a row; NULL is `null`.
    pub(super) fn write(&self, row: usize, out: &mut String) -> Result<()> {
        if self.is_null(row) {
            out.push_str("null");
            return Ok(());
        }
        match &self.kind {
            Kind::Null => out.push_str("null"),
            Kind::Texts(texts) => write::string(texts.value(row), out),
            Kind::Booleans(booleans) => out.push_str(if booleans.value(row) { "true" } else { "false" }),
            Kind::Integers(integers) => out.push_str(&integers.value(row).to_string()),
            Kind::Doubles(doubles) => write::double(doubles.value(row), out),
            Kind::Decimals(decimals) => {
                let text = Decimal128Type::format_decimal(decimals.value(row), decimals.precision(), decimals.scale());
                out.push_str(&write::number(&text));
            }
            Kind::Bytes(bytes) => {
                out.push('"');
                BASE64_STANDARD.encode_string(bytes.value(row), out);
                out.push('"');
            }
            Kind::Dates(days) => {
                let (year, month, day) = civil::civil(i64::from(days[row]));
                out.push_str(&format!("\"{year:04}-{month:02}-{day:02}\""));
            }
            Kind::Times(times, zone) => {
                out.push('"');
                time(times[row], out);
                out.push_str(zone);
                out.push('"');
            }
            Kind::Lists(offsets, elements) => {
                out.push('[');
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                for (index, element) in range.enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    elements.write(element, out)?;
                }
                out.push(']');
            }
            Kind::Rows(columns) => {
                out.push('{');
                for (index, (name, column)) in columns.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write::string(name, out);
                    out.push(':');
                    column.write(row, out)?;
                }
                out.push('}');
            }
            Kind::Maps(offsets, keys, values) => {
                let mut entries: Vec<usize> = (offsets[row] as usize..offsets[row + 1] as usize).collect();
                if entries.iter().any(|entry| keys.is_null(*entry)) {
                    return exec_err!("a MAP with a NULL key has no JSON form");
                }
                entries.sort_by(|left, right| write::name_order(keys.value(*left), keys.value(*right)));
                // Of several entries with one key, a map keeps the last.
                entries.dedup_by(|next, kept| {
                    let is_same = keys.value(*next) == keys.value(*kept);
                    if is_same {
                        *kept = *next;
                    }
                    is_same
                });
                out.push('{');
                for (index, entry) in entries.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write::string(keys.value(entry), out);
                    out.push(':');
                    values.write(entry, out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

/// Appends a timestamp in the form of ISO 8601, with the digits of the fraction that are not zero.
fn time(time_us: i64, out: &mut String) {
    let (days, of_day) = (time_us.div_euclid(civil::DAY_US), time_us.rem_euclid(civil::DAY_US));
    let (year, month, day) = civil::civil(days);
    let (hour, minute) = (of_day / civil::HOUR_US, of_day / civil::MINUTE_US % 60);
    let (second, fraction) = (of_day / civil::SECOND_US % 60, of_day % civil::SECOND_US);
    out.push_str(&format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    ));
    if fraction > 0 {
        out.push_str(format!(".{fraction:06}").trim_end_matches('0'));
    }
}
