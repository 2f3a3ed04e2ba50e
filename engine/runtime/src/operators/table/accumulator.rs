//! The contract of a columnar accumulator, and the choice of one for an aggregate call.
//!
//! DataFusion's own group accumulators consume what they emit; ours are read again and again (a slice belongs to many
//! windows, a window survives many checkpoints). The common functions have accumulators of our own; everything else
//! goes through [`datafusion_accumulator`](super::datafusion_accumulator). State columns are DataFusion's, field by field, because the planner
//! derives the schema between the local and the final phase from them.

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::*;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;

use super::count_distinct::CountDistinct;
use super::datafusion_accumulator::DataFusionAccumulator;
use super::numeric_accumulators::{Average, Count, DecimalSum, Max, Min, NumericAccumulator, Sum};
use super::state_snapshot::{ColumnSnapshot, StateSnapshot};
use super::{AggregateSpec, Select};
use crate::Error;

/// One aggregate's values for all groups of a table.
pub trait Accumulator: Send {
    /// Takes input rows: `groups[i]` is row i's group, below `group_count`. Rows whose `filter` is not true do not count.
    fn update(
        &mut self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error>;

    /// Takes partial states.
    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error>;

    /// Partial states of some groups.
    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error>;

    /// Partial states of some groups as of now, for another thread to read.
    fn snapshot(&mut self, select: &Select<'_>) -> Result<Box<dyn StateSnapshot>, Error> {
        Ok(Box::new(ColumnSnapshot(self.state(select)?)))
    }

    /// Results of some groups.
    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error>;

    /// Bytes held.
    fn size(&self) -> usize;

    /// Bytes that would be held besides if so many new groups came, as far as that is known.
    fn growth(&self, _groups: usize) -> usize {
        0
    }

    fn clear(&mut self) -> Result<(), Error>;
}

/// `count(*)`, which the SQL layer spells `count(1)`: no argument needs to be looked at.
pub fn counts_rows(function: &AggregateFunctionExpr) -> bool {
    function.fun().name() == "count"
        && !function.is_distinct()
        && function.expressions().iter().all(|argument| {
            argument
                .downcast_ref::<Literal>()
                .is_some_and(|literal| !literal.value().is_null())
        })
}

/// An accumulator for an aggregate call.
pub fn new_accumulator(spec: &AggregateSpec) -> Result<Box<dyn Accumulator>, Error> {
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

fn extremum<O: super::numeric_accumulators::FoldOperation + 'static>(
    result: &DataType,
) -> Option<Box<dyn Accumulator>> {
    macro_rules! fold {
        ($type:ty) => {
            Some(Box::new(NumericAccumulator::<$type, O>::new(result)))
        };
    }
    match result {
        DataType::Int8 => fold!(Int8Type),
        DataType::Int16 => fold!(Int16Type),
        DataType::Int32 => fold!(Int32Type),
        DataType::Int64 => fold!(Int64Type),
        DataType::UInt8 => fold!(UInt8Type),
        DataType::UInt16 => fold!(UInt16Type),
        DataType::UInt32 => fold!(UInt32Type),
        DataType::UInt64 => fold!(UInt64Type),
        DataType::Float32 => fold!(Float32Type),
        DataType::Float64 => fold!(Float64Type),
        DataType::Date32 => fold!(Date32Type),
        DataType::Date64 => fold!(Date64Type),
        DataType::Timestamp(TimeUnit::Second, _) => fold!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => fold!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => fold!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => fold!(TimestampNanosecondType),
        DataType::Decimal128(..) => fold!(Decimal128Type),
        _ => None,
    }
}
