//! Aggregates of [bitmaps](super::bitmaps): `BITMAP_BUILD_AGG`, `BITMAP_AND_AGG`, `BITMAP_OR_AGG` and
//! `BITMAP_XOR_AGG`. The partial state is the bitmap so far, NULL before the first value.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use millstream_graph::sql_type;
use roaring::RoaringBitmap;

use super::bitmaps::{is_bitmap, read, write};

/// Returns the aggregate of the integers of a group.
pub(super) fn build() -> Arc<AggregateUDF> {
    aggregate("bitmap_build_agg", Operation::Build)
}

/// Returns the aggregate of the values that all bitmaps of a group have.
pub(super) fn and() -> Arc<AggregateUDF> {
    aggregate("bitmap_and_agg", Operation::And)
}

/// Returns the aggregate of the values that a bitmap of a group has.
pub(super) fn or() -> Arc<AggregateUDF> {
    aggregate("bitmap_or_agg", Operation::Or)
}

/// Returns the aggregate of the values that an odd number of bitmaps of a group have.
pub(super) fn xor() -> Arc<AggregateUDF> {
    aggregate("bitmap_xor_agg", Operation::Xor)
}

fn aggregate(name: &'static str, operation: Operation) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(BitmapAggregate {
        name,
        operation,
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Build,
    And,
    Or,
    Xor,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BitmapAggregate {
    name: &'static str,
    operation: Operation,
    signature: Signature,
}

impl AggregateUDFImpl for BitmapAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match (self.operation, arguments) {
            (Operation::Build, [value]) if value.is_integer() || value.is_null() => Ok(vec![DataType::Int32]),
            (Operation::Build, [other]) => plan_err!("takes integers, not {}", sql_type::name(other)),
            (_, [bitmap]) if is_bitmap(bitmap) => Ok(vec![DataType::Binary]),
            (_, [other]) => plan_err!(
                "takes bitmaps, which are of type BYTES, not {}: BITMAP_BUILD_AGG(x) makes one of integers",
                sql_type::name(other)
            ),
            _ => plan_err!("takes 1 argument, not {}", arguments.len()),
        }
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if arguments.is_distinct && self.operation == Operation::Xor {
            return exec_err!("BITMAP_XOR_AGG takes no DISTINCT: select the distinct bitmaps in a subquery");
        }
        Ok(Box::new(BitmapAccumulator {
            operation: self.operation,
            bitmap: None,
        }))
    }
}

#[derive(Debug)]
struct BitmapAccumulator {
    operation: Operation,
    bitmap: Option<RoaringBitmap>,
}

impl BitmapAccumulator {
    fn combine(&mut self, bitmaps: &ArrayRef) -> Result<()> {
        for bytes in bitmaps.as_binary::<i32>().iter().flatten() {
            let other = read(bytes)?;
            match (&mut self.bitmap, self.operation) {
                (None, _) => self.bitmap = Some(other),
                (Some(bitmap), Operation::Build | Operation::Or) => *bitmap |= other,
                (Some(bitmap), Operation::And) => *bitmap &= other,
                (Some(bitmap), Operation::Xor) => *bitmap ^= other,
            }
        }
        Ok(())
    }
}

impl Accumulator for BitmapAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values] = values else {
            return exec_err!("an aggregate of bitmaps has one argument");
        };
        if self.operation != Operation::Build {
            return self.combine(values);
        }
        let mut integers = values.as_primitive::<Int32Type>().iter().flatten().peekable();
        if integers.peek().is_some() {
            let bitmap = self.bitmap.get_or_insert_default();
            bitmap.extend(integers.map(i32::cast_unsigned));
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        match states {
            [bitmaps] => self.combine(bitmaps),
            _ => exec_err!("the state of an aggregate of bitmaps is one bitmap"),
        }
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(self.bitmap.as_mut().map(write).transpose()?))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bitmap.as_ref().map_or(0, RoaringBitmap::serialized_size)
    }
}
