//! `PERCENTILE(x, p, frequency)`: an exact percentile of values that count several times.
//!
//! The aggregate takes a row of a value and its frequency. Rows with a NULL, or with a frequency that is not positive,
//! are ignored, as in Flink. The partial state is one byte string: for each value its bits (u64 LE) and its frequency
//! (i64 LE).

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;
use millstream_graph::sql_type;

/// Name of the aggregate, which calls of `PERCENTILE` are rewritten to.
pub(super) const NAME: &str = "$percentile";

/// Returns the aggregate. Its arguments are a row of value and frequency, and the fraction.
pub(super) fn weighted() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(Percentile {
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Percentile {
    signature: Signature,
}

impl AggregateUDFImpl for Percentile {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [DataType::Struct(fields), fraction] = arguments else {
            return plan_err!("takes a number, a fraction and a frequency");
        };
        let [value, frequency] = fields.as_ref() else {
            return plan_err!("takes a number, a fraction and a frequency");
        };
        let is_number = |given: &DataType| given.is_numeric() || given.is_null();
        if !is_number(value.data_type()) {
            return plan_err!("takes numbers, not {}", sql_type::name(value.data_type()));
        }
        if !frequency.data_type().is_integer() && !frequency.data_type().is_null() {
            let found = sql_type::name(frequency.data_type());
            return plan_err!("takes an integer as the frequency, not {found}");
        }
        if !is_number(fraction) {
            return plan_err!("takes a fraction from 0 to 1, not {}", sql_type::name(fraction));
        }
        let fields = Fields::from(vec![
            Field::new(value.name(), DataType::Float64, true),
            Field::new(frequency.name(), DataType::Int64, true),
        ]);
        Ok(vec![DataType::Struct(fields), DataType::Float64])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if arguments.is_distinct {
            return exec_err!("PERCENTILE with a frequency takes no DISTINCT");
        }
        let fraction = arguments.exprs.get(1).and_then(|expr| expr.downcast_ref::<Literal>());
        match fraction.map(Literal::value) {
            Some(ScalarValue::Float64(Some(fraction))) if (0.0..=1.0).contains(fraction) => Ok(Box::new(Frequencies {
                fraction: *fraction,
                by_value: BTreeMap::new(),
            })),
            _ => exec_err!("PERCENTILE takes a constant fraction from 0 to 1"),
        }
    }

    fn state_fields(&self, _: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new("frequencies", DataType::Binary, true))])
    }
}

/// The frequencies of the values of a group, by the [order](ordered) of the values.
#[derive(Debug)]
struct Frequencies {
    fraction: f64,
    by_value: BTreeMap<i64, i64>,
}

/// Returns an integer that has the place of a number in the total order; NaN is the greatest. Zeros are equal.
fn ordered(number: f64) -> i64 {
    let number = if number.is_nan() { f64::NAN } else { number + 0.0 };
    let bits = number.to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

/// Returns the number of a place in the order.
fn number(ordered: i64) -> f64 {
    let bits = ordered ^ ((ordered >> 63).cast_unsigned() >> 1).cast_signed();
    f64::from_bits(bits.cast_unsigned())
}

impl Frequencies {
    fn add(&mut self, value: i64, frequency: i64) {
        let held = self.by_value.entry(value).or_default();
        *held = held.saturating_add(frequency);
    }

    /// Returns the value at the fraction, interpolated between the two nearest ones.
    fn percentile(&self) -> Option<f64> {
        let total: i128 = self.by_value.values().map(|frequency| i128::from(*frequency)).sum();
        if total == 0 {
            return None;
        }
        let position = self.fraction * (total - 1) as f64 + 1.0;
        let (lower, higher) = (position.floor(), position.ceil());
        let mut values = self.by_value.iter();
        let mut passed = 0.0;
        while let Some((value, frequency)) = values.next() {
            passed += *frequency as f64;
            if passed < lower {
                continue;
            }
            let value = number(*value);
            return Some(match values.next().filter(|_| passed < higher) {
                Some((next, _)) => (higher - position) * value + (position - lower) * number(*next),
                None => value,
            });
        }
        None
    }
}

impl Accumulator for Frequencies {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(rows) = values.first().and_then(|rows| rows.as_struct_opt()) else {
            return exec_err!("PERCENTILE takes rows of a value and its frequency");
        };
        let numbers = rows.column(0).as_primitive::<Float64Type>();
        let frequencies = rows.column(1).as_primitive::<Int64Type>();
        for row in 0..rows.len() {
            let is_known = rows.is_valid(row) && numbers.is_valid(row) && frequencies.is_valid(row);
            if is_known && frequencies.value(row) > 0 {
                self.add(ordered(numbers.value(row)), frequencies.value(row));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [states] = states else {
            return exec_err!("the state of PERCENTILE is one column");
        };
        for state in states.as_binary::<i32>().iter().flatten() {
            let mut rest = state;
            while let Some((value, frequencies)) = rest.split_first_chunk()
                && let Some((frequency, next)) = frequencies.split_first_chunk()
            {
                let value = f64::from_bits(u64::from_le_bytes(*value));
                self.add(ordered(value), i64::from_le_bytes(*frequency));
                rest = next;
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut state = Vec::with_capacity(16 * self.by_value.len());
        for (value, frequency) in &self.by_value {
            state.extend_from_slice(&number(*value).to_bits().to_le_bytes());
            state.extend_from_slice(&frequency.to_le_bytes());
        }
        Ok(vec![ScalarValue::Binary(Some(state))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.percentile()))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.by_value.len() * 4 * size_of::<i64>()
    }
}
