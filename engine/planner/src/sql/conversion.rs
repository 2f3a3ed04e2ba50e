//! Conversion between the types of queries and of table columns.

use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use millstream_graph::multiset;
use millstream_graph::sql_type::{self, day_time, timestamp, timestamp_ltz, year_month};

use crate::functions::can_convert;

/// Returns the nearest type that tables can have, for columns taken from a query's result.
pub(super) fn storable(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::UInt64 | DataType::UInt32 => DataType::Int64,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt8 => DataType::Int16,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Timestamp(_, None) => timestamp(),
        DataType::Timestamp(_, Some(_)) => timestamp_ltz(),
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Interval(IntervalUnit::YearMonth) => year_month(),
        DataType::Duration(_) => day_time(),
        DataType::Interval(_) => DataType::Utf8,
        other => other.clone(),
    }
}

/// Returns true if `INSERT` converts implicitly: intervals to strings, but never from strings, and never to a narrower
/// type except for integers. Integers are widened here where Flink leaves them unchanged (`i + 1` and `SUM(i)` are
/// BIGINT); one that does not fit is an error of the row.
pub(super) fn casts_implicitly(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Null, Timestamp};
    if storable(from) == *to {
        return true;
    }
    let rank = |data_type: &DataType| match data_type {
        Int8 => Some(1),
        Int16 | DataType::UInt8 => Some(2),
        Int32 | DataType::UInt16 => Some(3),
        Int64 | DataType::UInt32 | DataType::UInt64 => Some(4),
        Float32 => Some(6),
        Float64 => Some(7),
        _ => None,
    };
    match (from, to) {
        (Null, _) => true,
        (interval, DataType::Utf8) if sql_type::is_interval(interval) => true,
        // A decimal is rounded to the column's scale; one that is too large is NULL.
        (Decimal128(..), Decimal128(..)) => true,
        (Decimal128(..), Float32 | Float64) => true,
        (_, Decimal128(..)) => rank(from).is_some_and(|rank| rank <= 4),
        (Timestamp(..), Timestamp(..)) => true,
        (Date32, Timestamp(..)) => true,
        (DataType::LargeBinary | DataType::BinaryView, Binary) => true,
        (from, to) if multiset::element(from).is_some() != multiset::element(to).is_some() => false,
        (DataType::List(from), DataType::List(to)) | (DataType::Map(from, _), DataType::Map(to, _)) => {
            from.data_type() == to.data_type() || casts_implicitly(from.data_type(), to.data_type())
        }
        (DataType::Struct(from), DataType::Struct(to)) => {
            from.len() == to.len()
                && from.iter().zip(to).all(|(from, to)| {
                    from.data_type() == to.data_type() || casts_implicitly(from.data_type(), to.data_type())
                })
        }
        _ => match (rank(from), rank(to)) {
            (Some(from), Some(to)) => from <= to || (from <= 4 && to <= 4),
            _ => false,
        },
    }
}

/// Returns a hint how to convert a value from one type to another, for an error of an `INSERT`.
pub(super) fn conversion(from: &DataType, to: &DataType, expression: &str) -> String {
    use DataType::{Date32, Timestamp};
    const SINCE: &str = "for milliseconds since 1970 (0 stands for seconds, 6 for microseconds)";
    let whole = match from {
        from if from.is_integer() => expression.to_owned(),
        _ => format!("CAST({expression} AS BIGINT)"),
    };
    match (from, to) {
        // Casts between times and numbers are refused, as the unit would be ambiguous.
        (from, Timestamp(..)) if from.is_numeric() => format!("write TO_TIMESTAMP_LTZ({whole}, 3) {SINCE}"),
        (from, Date32) if from.is_numeric() => {
            format!("write CAST(TO_TIMESTAMP_LTZ({whole}, 3) AS DATE) {SINCE}")
        }
        (Timestamp(..) | Date32, to) if to.is_numeric() => {
            let seconds = format!("EXTRACT(EPOCH FROM {expression})");
            match casts_implicitly(&DataType::Int64, to) {
                true => format!("write {seconds} for seconds since 1970"),
                false => format!("write CAST({seconds} AS {}) for seconds since 1970", sql_type::name(to)),
            }
        }
        (from, DataType::List(_)) if multiset::element(from).is_some() => format!(
            "write ARRAY_AGG(x) instead of COLLECT(x) for an ARRAY, or declare the table's column as {}",
            sql_type::name(from)
        ),
        _ if can_convert(from, to) => {
            format!("write CAST({expression} AS {})", sql_type::name(to))
        }
        _ => "there is no conversion: choose another column, or declare the table's column with that type".into(),
    }
}

/// Returns the type that Flink would give a column of a plan: integer literals are INT there, not BIGINT.
pub(super) fn as_flink_types(plan: &LogicalPlan, column: usize, data_type: &DataType) -> DataType {
    let width = if *data_type == DataType::Int64 {
        integer_width(plan, column)
    } else {
        None
    };
    width.unwrap_or_else(|| data_type.clone())
}

fn integer_width(plan: &LogicalPlan, column: usize) -> Option<DataType> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let expr = projection.expr.get(column)?;
            narrow(expr, &projection.input)
        }
        LogicalPlan::SubqueryAlias(alias) => integer_width(&alias.input, column),
        LogicalPlan::Filter(filter) => integer_width(&filter.input, column),
        LogicalPlan::Union(union) => {
            let widths: Option<Vec<DataType>> = union.inputs.iter().map(|input| integer_width(input, column)).collect();
            widest(widths?)
        }
        _ => None,
    }
}

/// Returns INT for an expression of integer literals and of columns that are no wider.
fn narrow(expr: &Expr, input: &LogicalPlan) -> Option<DataType> {
    match expr {
        Expr::Alias(alias) => narrow(&alias.expr, input),
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => i32::try_from(*number).ok().map(|_| DataType::Int32),
        Expr::Literal(value, _) if value.is_null() => Some(DataType::Int32),
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Int64 => {
            let inner = cast.expr.get_type(input.schema()).ok()?;
            if inner.is_null() {
                return Some(DataType::Int32);
            }
            matches!(inner, DataType::Int8 | DataType::Int16 | DataType::Int32)
                .then_some(DataType::Int32)
                .filter(|_| matches!(cast.expr.as_ref(), Expr::Column(_)))
                .or_else(|| narrow(&cast.expr, input))
        }
        Expr::Column(column) => {
            let position = input.schema().maybe_index_of_column(column)?;
            integer_width(input, position)
        }
        Expr::Case(case) => {
            let branches = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
            let widths: Option<Vec<DataType>> = branches.map(|branch| narrow(branch, input)).collect();
            widest(widths?)
        }
        Expr::Negative(inner) => narrow(inner, input),
        _ => None,
    }
}

fn widest(widths: Vec<DataType>) -> Option<DataType> {
    // The only width that `narrow` returns is INT.
    widths.into_iter().next()
}
