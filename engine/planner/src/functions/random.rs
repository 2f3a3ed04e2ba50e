//! `RAND(seed)` and `RAND_INTEGER(seed, n)`: the numbers of `java.util.Random`.
//!
//! If the seed is constant, each call has a sequence in each subtask, which begins anew after a restart, as in Flink.
//! If it is not, each row has the first number of the sequence of its seed.

use datafusion::arrow::array::{Array, AsArray, Float64Builder, Int32Builder};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::evaluation::{RandomSequence, with_sequence};
use millstream_graph::sql_type;

use super::scalar::{Scalar, array, array_result};

/// Returns all functions of this module.
pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::fallible("$rand", integers::<1>, |_| DataType::Float64, fraction).volatile(),
        Scalar::fallible("$rand_integer", integers::<2>, |_| DataType::Int32, integer).volatile(),
    ]
}

/// Accepts `N` integers, as INT.
fn integers<const N: usize>(given: &[DataType]) -> Result<Vec<DataType>> {
    if given.len() != N {
        return plan_err!("takes {N} integers, not {} arguments", given.len());
    }
    match given.iter().find(|given| !given.is_integer() && !given.is_null()) {
        Some(other) => plan_err!("takes integers, not {}", sql_type::name(other)),
        None => Ok(vec![DataType::Int32; N]),
    }
}

/// Calls a function for each row, with the sequence of its seed: NULL if the seed is.
fn for_each(
    arguments: &ScalarFunctionArgs,
    mut visit: impl FnMut(usize, Option<&mut RandomSequence>) -> Result<()>,
) -> Result<()> {
    match &arguments.args[0] {
        ColumnarValue::Scalar(ScalarValue::Int32(Some(seed))) => {
            with_sequence(&arguments.return_field, i64::from(*seed), |sequence| {
                (0..arguments.number_rows).try_for_each(|row| visit(row, Some(sequence)))
            })
        }
        _ => {
            let seeds = array(arguments, 0)?;
            let seeds = seeds.as_primitive::<Int32Type>();
            (0..arguments.number_rows).try_for_each(|row| {
                let mut sequence = seeds
                    .is_valid(row)
                    .then(|| RandomSequence::new(i64::from(seeds.value(row))));
                visit(row, sequence.as_mut())
            })
        }
    }
}

fn fraction(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let mut numbers = Float64Builder::with_capacity(arguments.number_rows);
    for_each(arguments, |_, sequence| {
        numbers.append_option(sequence.map(RandomSequence::next_double));
        Ok(())
    })?;
    array_result(numbers.finish())
}

fn integer(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let bounds = array(arguments, 1)?;
    let bounds = bounds.as_primitive::<Int32Type>();
    let mut numbers = Int32Builder::with_capacity(arguments.number_rows);
    for_each(arguments, |row, sequence| {
        let number = match sequence.filter(|_| bounds.is_valid(row)) {
            Some(_) if bounds.value(row) <= 0 => {
                return exec_err!("RAND_INTEGER takes a bound above 0, not {}", bounds.value(row));
            }
            Some(sequence) => Some(sequence.next_below(bounds.value(row))),
            None => None,
        };
        numbers.append_option(number);
        Ok(())
    })?;
    array_result(numbers.finish())
}
