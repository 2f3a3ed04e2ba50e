//! Variances and standard deviations of rows that can be taken back.
//!
//! The sums of the values and of their squares have twice the digits of the values ([`Double`]): so their difference,
//! which has far fewer digits than they have, is still precise, and nothing is left of values that were taken back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use millstream_state::keyed::Table;

use super::function::{Function, Rows, in_type};
use super::number::CellType;
use crate::Error;
use crate::operators::double::Double;

const COUNT: usize = 0;
const SUM: usize = 1;
const SQUARES: usize = 3;
const NOT_FINITE: usize = 5;

/// A variance or standard deviation. Cells: the number of values, their sum and that of their squares in two numbers
/// each, and the number of values that are not finite, which the sums do not contain.
pub(super) struct Variance {
    /// True for a sample: the sum of squares is divided by one less than the number of values.
    pub is_sample: bool,
    /// True for the standard deviation.
    pub is_root: bool,
}

fn get(table: &Table, slot: u32, value: usize) -> Double {
    Double {
        high: Float64Type::get(table, slot, value),
        low: Float64Type::get(table, slot, value + 1),
    }
}

fn add(table: &mut Table, slot: u32, value: usize, addend: Double) {
    let sum = get(table, slot, value).plus(addend);
    Float64Type::set(table, slot, value, sum.high);
    Float64Type::set(table, slot, value + 1, sum.low);
}

impl Function for Variance {
    fn value_types(&self) -> Vec<DataType> {
        let mut types = vec![DataType::Float64; NOT_FINITE + 1];
        types[COUNT] = DataType::Int64;
        types[NOT_FINITE] = DataType::Int64;
        types
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
        let values = values.as_primitive::<Float64Type>();
        rows.for_each(values.nulls(), |row, slot, weight| {
            let value = values.value(row);
            let square = Double::product(value, value);
            let is_finite = square.high.is_finite();
            for cell in [Some(COUNT), (!is_finite).then_some(NOT_FINITE)].into_iter().flatten() {
                let count = Int64Type::get(table, slot, first + cell);
                Int64Type::set(table, slot, first + cell, count + i64::from(weight));
            }
            if is_finite {
                let sign = f64::from(weight);
                add(table, slot, first + SUM, Double::sum(value * sign, 0.0));
                add(table, slot, first + SQUARES, square.times(sign));
            }
        });
        Ok(())
    }

    fn evaluate(&mut self, table: &Table, first: usize, slots: &[u32]) -> Result<ArrayRef, Error> {
        let results = slots.iter().map(|slot| {
            let count = Int64Type::get(table, *slot, first + COUNT);
            let divisor = count - i64::from(self.is_sample);
            if divisor <= 0 {
                return None;
            }
            if Int64Type::get(table, *slot, first + NOT_FINITE) > 0 {
                return Some(f64::NAN);
            }
            let mean_of_squares = get(table, *slot, first + SUM).square().divided_by(count as f64);
            let deviations = get(table, *slot, first + SQUARES).plus(mean_of_squares.times(-1.0));
            let variance = (deviations.high + deviations.low).max(0.0) / divisor as f64;
            Some(if self.is_root { variance.sqrt() } else { variance })
        });
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn is_zero(&self, table: &Table, first: usize, slot: u32) -> bool {
        let is_zero = |value: usize| {
            let sum = get(table, slot, first + value);
            sum.high + sum.low == 0.0
        };
        Int64Type::get(table, slot, first + COUNT) == 0 && is_zero(SUM) && is_zero(SQUARES)
    }
}
