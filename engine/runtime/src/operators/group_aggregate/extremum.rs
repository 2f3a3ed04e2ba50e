//! Minimum and maximum of rows that are never taken back.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, PrimitiveArray};
use arrow::datatypes::*;
use millstream_state::keyed::Table;

use super::function::{Function, Rows, in_type};
use super::number::CellType;
use crate::Error;
use crate::operators::table::FoldOperation;

/// The minimum or maximum. Cell: the value so far.
pub(super) struct Extremum<O, T = Int64Type> {
    result: DataType,
    fold: PhantomData<(O, T)>,
}

impl<O: FoldOperation + 'static> Extremum<O> {
    /// Returns the function for values of this type; `None` if it is not a number, date or time.
    pub(super) fn for_type(result: &DataType) -> Option<Box<dyn Function>> {
        macro_rules! of {
            ($type:ty) => {
                Some(Box::new(Extremum::<O, $type> {
                    result: result.clone(),
                    fold: PhantomData,
                }))
            };
        }
        match result {
            DataType::Int8 => of!(Int8Type),
            DataType::Int16 => of!(Int16Type),
            DataType::Int32 => of!(Int32Type),
            DataType::Int64 => of!(Int64Type),
            DataType::Float32 => of!(Float32Type),
            DataType::Float64 => of!(Float64Type),
            DataType::Date32 => of!(Date32Type),
            DataType::Timestamp(TimeUnit::Microsecond, _) => of!(TimestampMicrosecondType),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => of!(TimestampNanosecondType),
            DataType::Time32(TimeUnit::Millisecond) => of!(Time32MillisecondType),
            DataType::Time64(TimeUnit::Microsecond) => of!(Time64MicrosecondType),
            DataType::Duration(TimeUnit::Microsecond) => of!(DurationMicrosecondType),
            DataType::Interval(IntervalUnit::YearMonth) => of!(IntervalYearMonthType),
            DataType::Decimal128(..) => of!(Decimal128Type),
            _ => None,
        }
    }
}

impl<O: FoldOperation, T: CellType> Function for Extremum<O, T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn value_types(&self) -> Vec<DataType> {
        vec![self.result.clone()]
    }

    fn update(
        &mut self,
        arguments: &[ArrayRef],
        rows: &Rows<'_>,
        _ordinals: &[u32],
        table: &mut Table,
        first: usize,
    ) -> Result<(), Error> {
        let values = in_type(&arguments[0], &self.result)?;
        let values = values.as_primitive::<T>();
        rows.for_each(values.nulls(), |row, slot, _| {
            let value = values.value(row);
            let value = match table.is_null(slot, first) {
                true => value,
                false => O::apply(T::get(table, slot, first), value),
            };
            T::set(table, slot, first, value);
        });
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], rows: &Rows<'_>, table: &mut Table, first: usize) -> Result<(), Error> {
        self.update(states, rows, &[], table, first)
    }

    fn evaluate(&mut self, table: &Table, first: usize, slots: &[u32]) -> Result<ArrayRef, Error> {
        let values = slots
            .iter()
            .map(|slot| (!table.is_null(*slot, first)).then(|| T::get(table, *slot, first)));
        let values = values.collect::<PrimitiveArray<T>>();
        Ok(Arc::new(values.with_data_type(self.result.clone())))
    }

    fn is_zero(&self, _table: &Table, _first: usize, _slot: u32) -> bool {
        false
    }
}
