//! The choice of an accumulator for an aggregate call.
//!
//! The common functions have accumulators of our own; everything else goes through [`DataFusionAccumulator`].

use arrow::datatypes::*;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;

use super::AggregateSpec;
use super::accumulator::Accumulator;
use super::count_distinct::CountDistinct;
use super::datafusion_accumulator::DataFusionAccumulator;
use super::numeric_accumulators::{Average, Count, DecimalSum, Max, Min, NumericAccumulator, Sum, extremum};
use super::weighted::new_weighted;
use crate::Error;

/// Returns true for `count(*)`, which the SQL layer spells `count(1)`: its argument need not be evaluated.
pub(super) fn counts_rows(function: &AggregateFunctionExpr) -> bool {
    function.fun().name() == "count"
        && !function.is_distinct()
        && function.expressions().iter().all(|argument| {
            argument
                .downcast_ref::<Literal>()
                .is_some_and(|literal| !literal.value().is_null())
        })
}

/// Makes the accumulator for an aggregate call.
pub(crate) fn new_accumulator(spec: &AggregateSpec) -> Result<Box<dyn Accumulator>, Error> {
    if spec.weighted.is_some() {
        return Ok(new_weighted(spec)?.0);
    }
    let function = &spec.aggregate.function;
    let arguments = function.expressions().len();
    let plain = !function.is_distinct() && function.order_bys().is_empty() && arguments == 1;
    let result = &spec.result_type;
    // Integers, floats and decimals fold in the result's type; arguments of another type are cast to it.
    let own: Option<Box<dyn Accumulator>> = match function.fun().name() {
        "count" if plain || counts_rows(function) => Some(Box::new(Count::default())),
        "count" if function.is_distinct() && arguments == 1 => CountDistinct::for_call(spec)?,
        "sum" if plain => match result {
            DataType::Int64 => Some(Box::new(NumericAccumulator::<Int64Type, Sum>::new(result))),
            DataType::UInt64 => Some(Box::new(NumericAccumulator::<UInt64Type, Sum>::new(result))),
            DataType::Float64 => Some(Box::new(NumericAccumulator::<Float64Type, Sum>::new(result))),
            DataType::Decimal128(..) => Some(Box::new(NumericAccumulator::<Decimal128Type, DecimalSum>::new(result))),
            _ => None,
        },
        "min" if plain => extremum::<Min>(result),
        "max" if plain => extremum::<Max>(result),
        "avg" if plain && spec.state_fields.len() == 2 => {
            let sums = spec.state_fields[1].data_type();
            (result == &DataType::Float64 && sums == &DataType::Float64)
                .then(|| Box::new(Average::default()) as Box<dyn Accumulator>)
        }
        _ => None,
    };
    match own {
        Some(own) => Ok(own),
        None => Ok(Box::new(DataFusionAccumulator::new(function.clone())?)),
    }
}
