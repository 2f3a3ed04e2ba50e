//! Counts, sums and averages, which can take rows back.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, Float64Array, Int64Array, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use millstream_state::keyed::Table;

use super::function::{Function, Rows, in_type};
use super::number::CellType;
use crate::Error;
use crate::operators::double::Double;
use crate::operators::mutants::{self, Mutant};

/// The number of rows, or of values that are not NULL.
pub(super) struct Count;

impl Function for Count {
    fn value_types(&self) -> Vec<DataType> {
        vec![DataType::Int64]
    }

    fn update(
        &mut self,
        arguments: &[ArrayRef],
        rows: &Rows<'_>,
        _ordinals: &[u32],
        table: &mut Table,
        first: usize,
    ) -> Result<(), Error> {
        // Several arguments occur with DISTINCT only, which has taken out the rows with NULL.
        let nulls = arguments.first().and_then(|argument| argument.logical_nulls());
        rows.for_each(nulls.as_ref(), |_, slot, weight| add_count(table, slot, first, weight));
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], rows: &Rows<'_>, table: &mut Table, first: usize) -> Result<(), Error> {
        let counts = states[0].as_primitive::<Int64Type>();
        rows.for_each(None, |row, slot, _| merge_count(table, slot, first, counts.value(row)));
        Ok(())
    }

    fn evaluate(&mut self, table: &Table, first: usize, slots: &[u32]) -> Result<ArrayRef, Error> {
        let counts = slots.iter().map(|slot| Int64Type::get(table, *slot, first));
        Ok(Arc::new(Int64Array::from_iter_values(counts)))
    }

    fn is_zero(&self, table: &Table, first: usize, slot: u32) -> bool {
        Int64Type::get(table, slot, first) == 0
    }
}

#[inline(always)]
fn add_count(table: &mut Table, slot: u32, value: usize, weight: i8) {
    let count = Int64Type::get(table, slot, value);
    Int64Type::set(table, slot, value, count + i64::from(weight));
}

fn merge_count(table: &mut Table, slot: u32, value: usize, count: i64) {
    let held = Int64Type::get(table, slot, value);
    Int64Type::set(table, slot, value, held + count);
}

/// The sum of integers, which wraps, or of decimals, which is NULL if it has more digits than its type. Cells: the
/// number of values, and their sum. A sum of decimals beyond 128 bits becomes the greatest integer, which is not a
/// valid decimal, and stays so.
pub(super) struct Sum<T> {
    result: DataType,
    number: PhantomData<T>,
}

impl<T> Sum<T> {
    pub(super) fn new(result: &DataType) -> Self {
        Self {
            result: result.clone(),
            number: PhantomData,
        }
    }

    fn is_decimal(&self) -> bool {
        self.result.is_decimal()
    }
}

impl<T: CellType> Function for Sum<T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn value_types(&self) -> Vec<DataType> {
        vec![DataType::Int64, self.result.clone()]
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
        let beyond = T::Native::MAX_TOTAL_ORDER;
        let is_decimal = self.is_decimal();
        rows.for_each(values.nulls(), |row, slot, weight| {
            add_count(table, slot, first, weight);
            let held = T::get(table, slot, first + 1);
            let value = values.value(row);
            let sum = match (is_decimal, weight > 0 || mutants::is_active(Mutant::RetractionsAdded)) {
                (false, true) => held.add_wrapping(value),
                (false, false) => held.sub_wrapping(value),
                (true, _) if held.is_eq(beyond) => beyond,
                (true, true) => held.add_checked(value).unwrap_or(beyond),
                (true, false) => held.sub_checked(value).unwrap_or(beyond),
            };
            T::set(table, slot, first + 1, sum);
        });
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], rows: &Rows<'_>, table: &mut Table, first: usize) -> Result<(), Error> {
        let counts = states[0].as_primitive::<Int64Type>();
        let sums = states[1].as_primitive::<T>();
        let beyond = T::Native::MAX_TOTAL_ORDER;
        rows.for_each(None, |row, slot, _| {
            merge_count(table, slot, first, counts.value(row));
            let (held, sum) = (T::get(table, slot, first + 1), sums.value(row));
            let sum = match self.is_decimal() {
                false => held.add_wrapping(sum),
                true if held.is_eq(beyond) || sum.is_eq(beyond) => beyond,
                true => held.add_checked(sum).unwrap_or(beyond),
            };
            T::set(table, slot, first + 1, sum);
        });
        Ok(())
    }

    fn evaluate(&mut self, table: &Table, first: usize, slots: &[u32]) -> Result<ArrayRef, Error> {
        let sums = slots
            .iter()
            .map(|slot| (Int64Type::get(table, *slot, first) > 0).then(|| T::get(table, *slot, first + 1)));
        let sums: ArrayRef = Arc::new(sums.collect::<PrimitiveArray<T>>().with_data_type(self.result.clone()));
        Ok(match (sums.as_primitive_opt::<Decimal128Type>(), &self.result) {
            (Some(decimals), DataType::Decimal128(precision, _)) => {
                let decimals = decimals.null_if_overflow_precision(*precision);
                Arc::new(decimals.with_data_type(self.result.clone()))
            }
            _ => sums,
        })
    }

    fn is_zero(&self, table: &Table, first: usize, slot: u32) -> bool {
        Int64Type::get(table, slot, first) == 0 && T::get(table, slot, first + 1).is_zero()
    }
}

/// Cells of a sum of floating-point numbers: the number of values, and their sum; if rows can be taken back, also the
/// error of the sum (Neumaier's compensation) and the numbers of NaN, infinity and negative infinity, which the sum
/// does not contain.
struct FloatCells {
    retracts: bool,
}

const SUM: usize = 1;
const COMPENSATION: usize = 2;
const NANS: usize = 3;
const INFINITIES: usize = 4;
const NEGATIVE_INFINITIES: usize = 5;

impl FloatCells {
    fn types(&self) -> Vec<DataType> {
        let mut types = vec![DataType::Int64, DataType::Float64];
        if self.retracts {
            types.push(DataType::Float64);
            types.extend([DataType::Int64, DataType::Int64, DataType::Int64]);
        }
        types
    }

    fn update(&self, values: &Float64Array, rows: &Rows<'_>, table: &mut Table, first: usize) {
        rows.for_each(values.nulls(), |row, slot, weight| {
            add_count(table, slot, first, weight);
            let value = values.value(row);
            if !self.retracts {
                let sum = Float64Type::get(table, slot, first + SUM);
                Float64Type::set(table, slot, first + SUM, sum + value);
                return;
            }
            match value {
                value if value.is_nan() => add_count(table, slot, first + NANS, weight),
                f64::INFINITY => add_count(table, slot, first + INFINITIES, weight),
                f64::NEG_INFINITY => add_count(table, slot, first + NEGATIVE_INFINITIES, weight),
                value => {
                    let value = value * f64::from(weight);
                    let sum = Float64Type::get(table, slot, first + SUM);
                    let total = sum + value;
                    let error = match sum.abs() >= value.abs() {
                        true => (sum - total) + value,
                        false => (value - total) + sum,
                    };
                    let compensation = Float64Type::get(table, slot, first + COMPENSATION);
                    Float64Type::set(table, slot, first + SUM, total);
                    Float64Type::set(table, slot, first + COMPENSATION, compensation + error);
                }
            }
        });
    }

    fn merge(&self, states: &[ArrayRef], rows: &Rows<'_>, table: &mut Table, first: usize) {
        let integers = |at: usize| states[at].as_primitive::<Int64Type>();
        let floats = |at: usize| states[at].as_primitive::<Float64Type>();
        let (counts, high, low) = (integers(0), floats(1), floats(2));
        let [nans, infinities, negative_infinities] = [3, 4, 5].map(integers);
        rows.for_each(None, |row, slot, _| {
            merge_count(table, slot, first, counts.value(row));
            let sum = Float64Type::get(table, slot, first + SUM);
            let (high, low) = (high.value(row), low.value(row));
            let not_finite = [nans, infinities, negative_infinities].map(|counts| counts.value(row));
            if !self.retracts {
                let added = match not_finite.map(|count| count > 0) {
                    [true, ..] | [_, true, true] => f64::NAN,
                    [_, true, _] => f64::INFINITY,
                    [_, _, true] => f64::NEG_INFINITY,
                    _ => high + low,
                };
                Float64Type::set(table, slot, first + SUM, sum + added);
                return;
            }
            let total = Double::sum(sum, high);
            let compensation = Float64Type::get(table, slot, first + COMPENSATION);
            Float64Type::set(table, slot, first + SUM, total.high);
            Float64Type::set(table, slot, first + COMPENSATION, compensation + total.low + low);
            for (cell, count) in [NANS, INFINITIES, NEGATIVE_INFINITIES].into_iter().zip(not_finite) {
                merge_count(table, slot, first + cell, count);
            }
        });
    }

    /// Returns the number of values and their sum.
    fn sum(&self, table: &Table, first: usize, slot: u32) -> (i64, f64) {
        let count = Int64Type::get(table, slot, first);
        let sum = Float64Type::get(table, slot, first + SUM);
        if !self.retracts {
            return (count, sum);
        }
        let has = |value: usize| Int64Type::get(table, slot, first + value) > 0;
        let sum = match (has(NANS), has(INFINITIES), has(NEGATIVE_INFINITIES)) {
            (true, _, _) | (_, true, true) => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            _ => sum + Float64Type::get(table, slot, first + COMPENSATION),
        };
        (count, sum)
    }

    fn is_zero(&self, table: &Table, first: usize, slot: u32) -> bool {
        let is_zero = |value: usize| Int64Type::get(table, slot, first + value) == 0;
        let sum = Float64Type::get(table, slot, first + SUM) + Float64Type::get(table, slot, first + COMPENSATION);
        [0, NANS, INFINITIES, NEGATIVE_INFINITIES].into_iter().all(is_zero) && sum == 0.0
    }
}

/// Result of a [`FloatAggregate`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FloatResult {
    Sum,
    Average,
}

/// The sum or average of floating-point numbers; integers are converted.
pub(super) struct FloatAggregate {
    cells: FloatCells,
    result: FloatResult,
}

impl FloatAggregate {
    /// Creates the function. Rows can be taken back if `retracts` is true.
    pub(super) fn new(result: FloatResult, retracts: bool) -> Self {
        Self {
            cells: FloatCells { retracts },
            result,
        }
    }
}

impl Function for FloatAggregate {
    fn value_types(&self) -> Vec<DataType> {
        self.cells.types()
    }

    fn update(
        &mut self,
        arguments: &[ArrayRef],
        rows: &Rows<'_>,
        _ordinals: &[u32],
        table: &mut Table,
        first: usize,
    ) -> Result<(), Error> {
        let values = in_type(&arguments[0], &DataType::Float64)?;
        self.cells
            .update(values.as_primitive::<Float64Type>(), rows, table, first);
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], rows: &Rows<'_>, table: &mut Table, first: usize) -> Result<(), Error> {
        self.cells.merge(states, rows, table, first);
        Ok(())
    }

    fn evaluate(&mut self, table: &Table, first: usize, slots: &[u32]) -> Result<ArrayRef, Error> {
        let results = slots.iter().map(|slot| {
            let (count, sum) = self.cells.sum(table, first, *slot);
            (count > 0).then(|| match self.result {
                FloatResult::Sum => sum,
                FloatResult::Average => sum / count as f64,
            })
        });
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn is_zero(&self, table: &Table, first: usize, slot: u32) -> bool {
        self.cells.is_zero(table, first, slot)
    }
}
