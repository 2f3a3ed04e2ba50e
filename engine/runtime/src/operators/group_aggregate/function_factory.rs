//! The choice of a function for an aggregate call.

use arrow::datatypes::{DataType, Decimal128Type, Int64Type, Schema, UInt64Type};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::best_values::BestValues;
use super::collected::Collected;
use super::extremum::Extremum;
use super::function::{Direction, Function};
use super::partial_state::PartialState;
use super::sum::{Count, FloatAggregate, FloatResult, Sum};
use super::truth::Truth;
use super::variance::Variance;
use crate::Error;
use crate::operators::collection::{Collection, is_computed};
use crate::operators::table::{AggregateSpec, Max, Min};

/// Makes the function of an aggregate call over rows of the schema `input`. If the call is `distinct`, the function
/// gets each value once. Returns `None` if rows are taken back (`retracts`) and the function cannot do that.
pub(super) fn new_function(
    spec: &AggregateSpec,
    input: &Schema,
    distinct: bool,
    retracts: bool,
) -> Option<Result<Box<dyn Function>, Error>> {
    let function = &spec.aggregate.function;
    let is_ordered = !function.order_bys().is_empty();
    let is_plain = (distinct || !function.is_distinct()) && !is_ordered;
    let arguments = function.expressions().len();
    let result = &spec.result_type;
    let own: Option<Box<dyn Function>> = match function.fun().name() {
        "count" if is_plain => Some(Box::new(Count)),
        "sum" if is_plain && arguments == 1 => match result {
            DataType::Int64 => Some(Box::new(Sum::<Int64Type>::new(result))),
            DataType::UInt64 => Some(Box::new(Sum::<UInt64Type>::new(result))),
            DataType::Decimal128(..) => Some(Box::new(Sum::<Decimal128Type>::new(result))),
            DataType::Float64 => Some(Box::new(FloatAggregate::new(FloatResult::Sum, retracts))),
            _ => None,
        },
        "avg" if is_plain && arguments == 1 && result == &DataType::Float64 => {
            Some(Box::new(FloatAggregate::new(FloatResult::Average, retracts)))
        }
        "min" if retracts => Some(Box::new(BestValues::new(Direction::LeastFirst, result, false))),
        "max" if retracts => Some(Box::new(BestValues::new(Direction::GreatestFirst, result, false))),
        "first_value" if retracts && is_ordered => Some(Box::new(BestValues::new(Direction::LeastFirst, result, true))),
        "last_value" if retracts && is_ordered => {
            Some(Box::new(BestValues::new(Direction::GreatestFirst, result, true)))
        }
        name if retracts
            && (matches!(name, "first_value" | "last_value" | "array_agg" | "string_agg") || is_computed(name)) =>
        {
            let collection = Collection::of(function, input)?;
            Some(Box::new(Collected { collection }))
        }
        name @ ("var" | "var_pop" | "stddev" | "stddev_pop") if retracts && is_plain => Some(Box::new(Variance {
            is_sample: !name.ends_with("pop"),
            is_root: name.starts_with("stddev"),
        })),
        name @ ("bool_and" | "bool_or") if retracts && is_plain => Some(Box::new(Truth {
            is_conjunction: name == "bool_and",
        })),
        "min" => Extremum::<Min>::for_type(result),
        "max" => Extremum::<Max>::for_type(result),
        _ => None,
    };
    match own {
        Some(own) => Some(Ok(own)),
        None if retracts || distinct => None,
        None => Some(
            PartialState::new(spec, is_null_without_rows(function, result))
                .map(|function| Box::new(function) as Box<dyn Function>),
        ),
    }
}

/// Returns true if the result over no values is NULL.
fn is_null_without_rows(function: &AggregateFunctionExpr, result: &DataType) -> bool {
    function.default_value(result).is_ok_and(|value| value.is_null())
}
