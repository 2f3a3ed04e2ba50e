//! Partial states of aggregation in two phases without windows.

use arrow_schema::{DataType, TimeUnit};

use crate::Aggregate;

/// Returns the types of the columns of a call's partial state, if a local aggregate can compute it; `None` for a
/// function whose state grows with its input. If rows are taken back (`retracts`), the state is that of weighted rows.
///
/// * `COUNT`: the number of values.
/// * `SUM` of integers and decimals: the number of values and their sum.
/// * `SUM` and `AVG` of floating-point numbers: the number of values; the sum of those that are finite, in two numbers;
///   the numbers of NaN, of infinity and of negative infinity.
/// * `MIN` and `MAX` of rows that are never taken back: the value, or NULL.
pub fn partial_state(call: &Aggregate, retracts: bool) -> Option<Vec<DataType>> {
    let function = &call.function;
    if function.is_distinct() || !function.order_bys().is_empty() || function.expressions().len() != 1 {
        return None;
    }
    let result = function.field().data_type().clone();
    match (function.fun().name(), &result) {
        ("count", _) => Some(vec![DataType::Int64]),
        ("sum", DataType::Int64 | DataType::Decimal128(..)) => Some(vec![DataType::Int64, result]),
        ("sum" | "avg", DataType::Float64) => {
            let mut types = vec![DataType::Int64; 6];
            types[1] = DataType::Float64;
            types[2] = DataType::Float64;
            Some(types)
        }
        ("min" | "max", _) if !retracts && is_number_or_time(&result) => Some(vec![result]),
        _ => None,
    }
}

fn is_number_or_time(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Date32
            | DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)
            | DataType::Decimal128(..)
    )
}
