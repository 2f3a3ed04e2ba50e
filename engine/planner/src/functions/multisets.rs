//! Multisets: the result of `COLLECT`, and the number of their elements.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, make_comparator, new_empty_array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::{float_equality, multiset, sql_type};

use super::arrays::element_of;
use super::scalar::{Scalar, array};

/// Name of the function of an array's elements as a multiset: `COLLECT(x)` is `$multiset(ARRAY_AGG(x))`.
pub(crate) const MULTISET: &str = "$multiset";

pub(super) fn all() -> Vec<Scalar> {
    vec![Scalar::fallible(MULTISET, one_array, multiset_type, of_arrays)]
}

fn one_array(given: &[DataType]) -> Result<Vec<DataType>> {
    let [list] = given else {
        return plan_err!("takes one array, not {} arguments", given.len());
    };
    let element = element_of(list)?;
    let none = new_empty_array(element);
    if make_comparator(&none, &none, SortOptions::default()).is_err() {
        return plan_err!(
            "takes values that can be compared, not {}: use ARRAY_AGG",
            sql_type::name(element)
        );
    }
    Ok(given.to_vec())
}

fn multiset_type(given: &[DataType]) -> DataType {
    multiset::of(element_of(&given[0]).cloned().unwrap_or(DataType::Null))
}

/// Returns the elements that are not NULL; those of a NULL array, of no values, are none.
fn of_arrays(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let lists = float_equality::normalize(&array(arguments, 0)?)?;
    Ok(ColumnarValue::Array(Arc::new(multiset::of_lists(
        lists.as_list::<i32>(),
    )?)))
}
