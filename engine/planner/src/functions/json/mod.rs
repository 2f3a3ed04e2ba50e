//! Functions of JSON texts.
//!
//! A text is [read](reader) only as far as it is needed: a [path] [selects](select) slices of it, and [`write`] writes
//! results in Flink's form. So numbers keep all their digits, and a value is found whatever else the text contains.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;

use super::scalar::{Scalar, boolean, strings, utf8};

mod construct;
mod extract;
mod path;
mod reader;
mod select;
mod values;
mod write;

pub(super) fn all() -> Vec<Scalar> {
    let mut all = vec![
        Scalar::infallible("json_value", strings::<2>, utf8, extract::value::value),
        Scalar::fallible(
            "$json_value",
            extract::value::value_arguments,
            extract::value::last,
            extract::value::value_or,
        ),
        Scalar::infallible("json_query", strings::<2>, utf8, extract::query::query),
        Scalar::fallible("$json_query", strings::<5>, utf8, extract::query::query_or),
        Scalar::fallible(
            "$json_elements",
            strings::<5>,
            extract::query::texts_type,
            extract::query::query_elements,
        ),
        Scalar::infallible("json_exists", strings::<2>, boolean, extract::exists),
        Scalar::fallible("$json_exists", strings::<3>, boolean, extract::exists),
        Scalar::infallible("is_json", one_or_two_texts, boolean, extract::is_json),
    ];
    all.extend(construct::all());
    all
}

fn one_or_two_texts(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.len() {
        1 | 2 => Ok(vec![DataType::Utf8; given.len()]),
        other => plan_err!("takes a text, not {other} arguments"),
    }
}
