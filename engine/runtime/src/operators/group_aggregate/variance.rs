//! Variances and standard deviations of rows that can be taken back.
//!
//! The sums of the values and of their squares are kept as unevaluated sums of two floating-point numbers
//! (double-double arithmetic, after Dekker and Knuth), with twice the digits: so their difference, which has far fewer
//! digits than they have, is still precise, and nothing is left of values that were taken back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use millstream_state::keyed::Table;

use super::function::{Function, Rows, in_type};
use super::number::CellType;
use crate::Error;

/// The value `high + low`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Double {
    high: f64,
    low: f64,
}

impl Double {
    /// Returns the exact sum of two numbers.
    fn sum(a: f64, b: f64) -> Self {
        let high = a + b;
        let of_b = high - a;
        let low = (a - (high - of_b)) + (b - of_b);
        Self { high, low }
    }

    /// Returns the exact product of two numbers.
    fn product(a: f64, b: f64) -> Self {
        let high = a * b;
        Self {
            high,
            low: a.mul_add(b, -high),
        }
    }

    fn plus(self, other: Self) -> Self {
        let sum = Self::sum(self.high, other.high);
        let low = Self::sum(self.low, other.low);
        let sum = Self::sum(sum.high, sum.low + low.high);
        Self::sum(sum.high, sum.low + low.low)
    }

    fn times(self, sign: f64) -> Self {
        Self {
            high: self.high * sign,
            low: self.low * sign,
        }
    }

    fn square(self) -> Self {
        let product = Self::product(self.high, self.high);
        Self::sum(product.high, product.low + 2.0 * self.high * self.low)
    }

    fn divided_by(self, divisor: f64) -> Self {
        let quotient = self.high / divisor;
        let rest = self.plus(Self::product(quotient, divisor).times(-1.0));
        Self::sum(quotient, (rest.high + rest.low) / divisor)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_deviation_from_a_large_mean_is_precise() {
        let values = [1e9 + 0.25, 1e9 + 0.5, 1e9 + 0.75];
        let zero = Double { high: 0.0, low: 0.0 };
        let sum = values
            .iter()
            .fold(zero, |sum, value| sum.plus(Double::sum(*value, 0.0)));
        let squares = values
            .iter()
            .fold(zero, |sum, value| sum.plus(Double::product(*value, *value)));
        let deviations = squares.plus(sum.square().divided_by(3.0).times(-1.0));
        assert!(
            (deviations.high + deviations.low - 0.125).abs() < 1e-9,
            "{deviations:?}"
        );
    }

    #[test]
    fn nothing_is_left_of_values_that_are_taken_back() {
        let values = [0.1, 1e-9, 12345.678, 3e7];
        let zero = Double { high: 0.0, low: 0.0 };
        let squares = |sign: f64| {
            values
                .iter()
                .map(move |value| Double::product(*value, *value).times(sign))
        };
        let rest = squares(1.0).chain(squares(-1.0)).fold(zero, Double::plus);
        assert!(rest.high.abs() < 1e-12, "{rest:?}");
    }
}
