//! The Arrow types of SQL types, and their names for messages.
//!
//! Strings are `Utf8`. Timestamps are microseconds: without a zone for `TIMESTAMP`, in UTC for `TIMESTAMP_LTZ`.
//! Intervals are months or microseconds ([`year_month`], [`day_time`]).

use arrow_schema::{DataType, IntervalUnit, TimeUnit};

use crate::multiset;

/// Returns the Arrow type of `TIMESTAMP`.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// Returns the Arrow type of `TIMESTAMP_LTZ`.
pub fn timestamp_ltz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Returns the Arrow type of `INTERVAL YEAR TO MONTH`, `INTERVAL YEAR` and `INTERVAL MONTH`: a number of months.
pub fn year_month() -> DataType {
    DataType::Interval(IntervalUnit::YearMonth)
}

/// Returns the Arrow type of `INTERVAL DAY TO SECOND` and its parts, such as `INTERVAL HOUR`: microseconds.
pub fn day_time() -> DataType {
    DataType::Duration(TimeUnit::Microsecond)
}

/// Returns true for the type of an interval.
pub fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

/// Returns the SQL name of an Arrow type, such as `ARRAY<INT>`.
pub fn name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::UInt8 => "SMALLINT".into(),
        DataType::UInt16 => "INT".into(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH".into(),
        DataType::Duration(_) => "INTERVAL DAY TO SECOND".into(),
        DataType::Interval(_) => "INTERVAL".into(),
        DataType::Null => "NULL".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP_LTZ".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "BYTES".into()
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("ARRAY<{}>", name(item.data_type()))
        }
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{} {}", field.name(), name(field.data_type())))
                .collect();
            format!("ROW<{}>", fields.join(", "))
        }
        multiset if multiset::element(multiset).is_some() => {
            format!(
                "MULTISET<{}>",
                multiset::element(multiset).map(name).unwrap_or_default()
            )
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP<{}, {}>", name(fields[0].data_type()), name(fields[1].data_type()))
            }
            other => name(other),
        },
        DataType::Dictionary(_, values) => name(values),
        DataType::RunEndEncoded(_, values) => name(values.data_type()),
        // Neither SQL nor the formats have them.
        DataType::Float16 | DataType::Union(..) | DataType::ListView(_) | DataType::LargeListView(_) => {
            data_type.to_string()
        }
    }
}
