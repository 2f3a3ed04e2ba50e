//! `RAISE_ERROR(message)`, which fails a row with a message of the query.

use datafusion::arrow::array::BooleanArray;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::scalar::{Scalar, Texts, array_result, boolean, strings};

/// Message of a row whose message is NULL.
const MESSAGE_DEFAULT: &str = "RAISE_ERROR";

pub(super) fn all() -> Vec<Scalar> {
    // Volatile: planning must not compute it, and conditions keep their order.
    vec![Scalar::fallible("raise_error", strings::<1>, boolean, raise_error).volatile()]
}

fn raise_error(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    if arguments.number_rows == 0 {
        return array_result(BooleanArray::new_null(0));
    }
    let message = Texts::of(arguments, 0)?.get(0).unwrap_or(MESSAGE_DEFAULT).to_owned();
    exec_err!("{message}")
}
